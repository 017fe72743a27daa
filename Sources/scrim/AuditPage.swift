import Container

/// The result of an audit as one HTML page, without scripts and without anything from elsewhere.
struct AuditPage {
  private static let width = 1200.0
  private static let height = 640.0
  /// More tiles would not be seen.
  private static let smallestTile = 6.0
  private static let maximumRows = 500

  private let root: AuditNode
  private let title: String
  private let isOwner: Bool
  private var tiles = ""

  init(_ root: AuditNode, vault: String, isOwner: Bool) {
    self.root = root
    title = vault
    self.isOwner = isOwner
    draw(root, "", Treemap.Rectangle(x: 0, y: 0, width: Self.width, height: Self.height), depth: 0)
  }

  /// The whole page.
  var text: String {
    """
    <!DOCTYPE html>
    <html lang="en"><head><meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>\(Self.escape(title)): what can be read</title>
    <style>\(Self.style)</style></head><body>
    <h1>\(Self.escape(title))</h1>
    <p>\(Self.escape(AuditReport.sentence(root)))</p>
    <p class="legend">\(legend)</p>
    <svg viewBox="0 0 \(Int(Self.width)) \(Int(Self.height))" role="img" aria-label="Treemap of the vault">
    \(tiles)</svg>
    <table><thead><tr><th>directory</th><th>files</th><th>size</th><th>readable</th>\(isOwner ? "<th>policy</th><th></th>" : "")</tr></thead>
    <tbody>
    \(rows)</tbody></table>
    </body></html>

    """
  }

  private static let style = """
    :root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--line:#c9d1da}\
    @media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--paper:#14181d;--line:#3b4652}}\
    body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1200px;margin:1.5em auto;padding:0 1em}\
    h1{font-size:1.3em;overflow-wrap:anywhere}svg{width:100%;height:auto;display:block;margin:1em 0}\
    svg text{font:12px system-ui,sans-serif;fill:#fff}svg .folder text{fill:var(--ink)}\
    .folder rect{fill:none;stroke:var(--line)}\
    .plain{fill:#b3261e;background:#b3261e}.compressed{fill:#8a5a00;background:#8a5a00}\
    .sealed{fill:#1d5fa8;background:#1d5fa8}.sealed-compressed{fill:#0b6e69;background:#0b6e69}\
    .tile{stroke:var(--paper)}.legend span{color:#fff;padding:.15em .6em;border-radius:.3em;margin-right:.5em}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2em .6em;border-bottom:1px solid var(--line);overflow-wrap:anywhere}\
    td:nth-child(2),td:nth-child(3),td:nth-child(4){white-space:nowrap}
    """

  private var legend: String {
    ContentPolicy.allCases.map { policy in
      let share = root.all[policy] ?? AuditNode.Share()
      return "<span class=\"\(policy.name)\">\(policy.name): \(share.files) files, "
        + "\(StatusText.bytes(share.bytes))</span>"
    }.joined(separator: "\n")
  }

  // MARK: The map

  private enum Part {
    case folder(AuditNode)
    case file(AuditNode.PlainFile)
    case rest(ContentPolicy, AuditNode.Share)

    var weight: Double {
      switch self {
      case .folder(let node): Double(node.bytes)
      case .file(let file): Double(file.bytes)
      case .rest(_, let share): Double(share.bytes)
      }
    }
  }

  private mutating func draw(
    _ node: AuditNode, _ path: String, _ place: Treemap.Rectangle, depth: Int
  ) {
    var parts: [Part] = node.children.map { .folder($0) }
    // Plain files have names that can be told; of them the largest.
    let named = node.plainFiles.prefix(40)
    parts += named.map { .file($0) }
    for (policy, share) in node.own {
      var share = share
      if policy == .plain {
        share.files -= UInt64(named.count)
        share.bytes -= named.reduce(0) { $0 + $1.bytes }
      }
      parts.append(.rest(policy, share))
    }
    parts.sort { $0.weight > $1.weight }
    let rectangles = Treemap.tiles(parts.map(\.weight), in: place)
    for (part, rectangle) in zip(parts, rectangles) {
      guard min(rectangle.width, rectangle.height) >= Self.smallestTile else { continue }
      switch part {
      case .folder(let inner): drawFolder(inner, path, rectangle, depth)
      case .file(let file):
        drawTile("plain", Self.name(file.name), path, file.bytes, files: 1, rectangle)
      case .rest(let policy, let share):
        drawTile(
          policy.name, "\(share.files) \(policy.name)", path, share.bytes, files: share.files,
          rectangle)
      }
    }
  }

  private mutating func drawFolder(
    _ node: AuditNode, _ path: String, _ place: Treemap.Rectangle, _ depth: Int
  ) {
    let name = Self.name(node.name)
    let hasLabel = place.width > 60 && place.height > 40
    tiles +=
      "<g class=\"folder\"><title>\(Self.escape("\(path)/\(name)")): \(node.files) files, "
      + "\(StatusText.bytes(node.bytes))</title>\(Self.rectangle(place, ""))"
    if hasLabel { tiles += Self.label(name, place, above: true) }
    tiles += "</g>\n"
    let inside = place.inset(hasLabel ? 3 : 1, top: hasLabel ? 18 : 1)
    draw(node, "\(path)/\(name)", inside, depth: depth + 1)
  }

  private mutating func drawTile(
    _ mode: String, _ name: String, _ path: String, _ bytes: UInt64, files: UInt64,
    _ place: Treemap.Rectangle
  ) {
    tiles +=
      "<g><title>\(Self.escape("\(path)/\(name)")), \(mode), \(StatusText.bytes(bytes))</title>"
    tiles += Self.rectangle(place, "tile \(mode)")
    if place.width > 60, place.height > 18 { tiles += Self.label(name, place, above: false) }
    tiles += "</g>\n"
  }

  private static func rectangle(_ place: Treemap.Rectangle, _ style: String) -> String {
    "<rect class=\"\(style)\" x=\"\(number(place.x))\" y=\"\(number(place.y))\" "
      + "width=\"\(number(place.width))\" height=\"\(number(place.height))\"/>"
  }

  private static func label(_ name: String, _ place: Treemap.Rectangle, above: Bool) -> String {
    let room = Int((place.width - 8) / 7)
    let short = name.count > room ? String(name.prefix(max(room - 1, 1))) + "…" : name
    return "<text x=\"\(number(place.x + 4))\" y=\"\(number(place.y + (above ? 13 : 14)))\">"
      + "\(escape(short))</text>"
  }

  private static func number(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

  // MARK: The table

  private var rows: String {
    var lines: [String] = []
    var count = 0
    AuditReport.walk(root) { node, path, _ in
      count += 1
      guard count <= Self.maximumRows else { return }
      var cells = [
        Self.escape(path), "\(node.files)", StatusText.bytes(node.bytes),
        node.bytes == 0 ? "" : "\(AuditReport.percent(node.readableBytes, of: node.bytes))",
      ]
      if isOwner {
        cells.append(node.policy.map { "\($0.content.name), names \($0.names)" } ?? "")
        cells.append(Self.escape(node.problem ?? node.state ?? ""))
      }
      lines.append("<tr>\(cells.map { "<td>\($0)</td>" }.joined())</tr>\n")
    }
    if count > Self.maximumRows {
      lines.append("<tr><td colspan=\"6\">and \(count - Self.maximumRows) more</td></tr>\n")
    }
    return lines.joined()
  }

  static func name(_ bytes: [UInt8]) -> String {
    StatusText.safe(String(decoding: bytes, as: UTF8.self))
  }

  /// Whatever a name holds, it stays text: in elements and in quoted attributes.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for character in text.unicodeScalars {
      switch character {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      // What turns the direction of writing could make a name look like another.
      case "\u{202A}"..."\u{202E}", "\u{2066}"..."\u{2069}": escaped += "\u{FFFD}"
      default: escaped.unicodeScalars.append(character)
      }
    }
    return escaped
  }
}
