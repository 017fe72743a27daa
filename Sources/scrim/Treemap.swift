/// Fills a rectangle with tiles whose areas are in the proportion of their weights, as square as can be
/// (Bruls, Huizing and van Wijk, *Squarified Treemaps*).
struct Treemap {
  struct Rectangle {
    var x: Double
    var y: Double
    var width: Double
    var height: Double

    func inset(_ margin: Double, top: Double) -> Rectangle {
      Rectangle(
        x: x + margin, y: y + top, width: max(0, width - 2 * margin),
        height: max(0, height - top - margin))
    }
  }

  /// A rectangle for each weight, in the order given.
  ///
  /// - Parameters:
  ///   - weights: In falling order, none negative.
  ///   - place: What to fill.
  /// - Returns: As many as weights.
  static func tiles(_ weights: [Double], in place: Rectangle) -> [Rectangle] {
    let total = weights.reduce(0, +)
    guard total > 0, place.width > 0, place.height > 0 else {
      return weights.map { _ in Rectangle(x: place.x, y: place.y, width: 0, height: 0) }
    }
    let scale = place.width * place.height / total
    let areas = weights.map { $0 * scale }
    var tiles: [Rectangle] = []
    var rest = place
    var start = 0
    while start < areas.count {
      let side = min(rest.width, rest.height)
      var end = start + 1
      var sum = areas[start]
      while end < areas.count, areas[end] > 0 {
        let grown = sum + areas[end]
        let before = worst(areas[start], areas[end - 1], sum, side)
        guard worst(areas[start], areas[end], grown, side) <= before else { break }
        sum = grown
        end += 1
      }
      tiles += row(areas[start..<end], sum, &rest)
      start = end
    }
    return tiles
  }

  /// The ratio of sides of the least square tile in a row.
  private static func worst(
    _ largest: Double, _ smallest: Double, _ sum: Double, _ side: Double
  ) -> Double {
    guard sum > 0, smallest > 0, side > 0 else { return .infinity }
    let square = sum * sum
    return max(side * side * largest / square, square / (side * side * smallest))
  }

  private static func row(
    _ areas: ArraySlice<Double>, _ sum: Double, _ rest: inout Rectangle
  ) -> [Rectangle] {
    let isColumn = rest.width >= rest.height
    let side = isColumn ? rest.height : rest.width
    let depth = side > 0 ? sum / side : 0
    var position = isColumn ? rest.y : rest.x
    var tiles: [Rectangle] = []
    for area in areas {
      let length = depth > 0 ? area / depth : 0
      tiles.append(
        isColumn
          ? Rectangle(x: rest.x, y: position, width: depth, height: length)
          : Rectangle(x: position, y: rest.y, width: length, height: depth))
      position += length
    }
    if isColumn {
      rest.x += depth
      rest.width = max(0, rest.width - depth)
    } else {
      rest.y += depth
      rest.height = max(0, rest.height - depth)
    }
    return tiles
  }
}
