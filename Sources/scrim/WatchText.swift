/// The live view as text.
enum WatchText {
  /// For a terminal of so many columns and lines; what is open goes last and is cut.
  static func lines(
    _ report: MountPointReport, _ rates: Rates, width: Int, rows: Int
  ) -> [String] {
    let row = TableRow(width: width)
    var lines = [
      "vault        \(StatusText.safe(report.vault).shortened(to: width - 13))",
      "mounted on   \(StatusText.safe(report.mountpoint).shortened(to: width - 13))",
    ]
    for path in StatusText.paths(report) {
      lines += path.wrapped(to: width, indent: 13).split(separator: "\n").map(String.init)
    }
    lines += [
      damage(report.integrityFailures ?? 0), "",
      row.text("a second", ["opens", "reads", "writes", "read", "written"]),
    ]
    lines += (rates.modes + [rates.total]).map { mode in
      row.text(
        mode.name,
        [mode.opens, mode.reads, mode.writes].map { row.count(UInt64($0.rounded())) }
          + [mode.bytesRead, mode.bytesWritten].map { row.bytes(UInt64($0.rounded())) })
    }
    lines += ["", "requests     \(UInt64(rates.requests.rounded())) a second"]
    if let blocks = rates.blocks, let names = rates.names {
      lines.append("cache hits   blocks \(hits(blocks)), names \(hits(names)) a second")
    }
    lines += [
      "by kernel    \(StatusText.share(report.passthrough.opens, of: report.plain.opens)) opens of plain files",
      "lent         \(report.passthrough.backingFiles ?? 0) backing files, known \(report.inodes ?? 0) inodes",
    ]
    return lines + openFiles(report, width: width, rows: rows - lines.count)
  }

  private static func damage(_ count: UInt64) -> String {
    // Short enough for any width: a line that is cut would keep its colour.
    let text = "damage       \(count) found"
    return count > 0 ? Colour.red.paint(text) : text
  }

  /// `97 % of 1000`.
  private static func hits(_ rate: Rates.Cache) -> String {
    let (hits, all) = (rate.hits.rounded(), (rate.hits + rate.misses).rounded())
    return all == 0 ? "none wanted" : "\(Int(min(hits / all, 1) * 100)) % of \(UInt64(all))"
  }

  private static func openFiles(_ report: MountPointReport, width: Int, rows: Int) -> [String] {
    let total = report.openFilesTotal ?? report.openFiles.count
    var lines = ["open files   \(total)"]
    for file in report.openFiles {
      // The last line says how many there was no room for.
      if lines.count + 1 >= rows, total > lines.count {
        lines.append("  and \(total - lines.count + 1) more")
        break
      }
      let how = " (\(file.mode), \(file.opens))"
      lines.append("  \(StatusText.safe(file.path).shortened(to: width - how.count - 2))\(how)")
    }
    return lines
  }
}
