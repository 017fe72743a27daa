import Container
import Logging
import Testing
import Vault

@testable import Mount

@Suite struct IntegrityLogTests {
  @Test func sameFileIsNamedOnceAMinute() {
    let log = IntegrityLog(Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    #expect(log.admit("/a", at: 1000) == 0)
    #expect(log.admit("/a", at: 2000) == nil)
    #expect(log.admit("/b", at: 2000) == 1)
    #expect(log.admit("/a", at: 61_001) == 0)
  }

  @Test func manyFilesInOneSecondAreCutOff() {
    let log = IntegrityLog(Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let lines = (0..<100).filter { log.admit("/\($0)", at: 5000) != nil }
    #expect(lines.count == 10)
    #expect(log.admit("/later", at: 6000) == 90)
  }

  @Test func pathsStayOnOneLine() {
    #expect(IntegrityLog.quoted("/a\nERROR b\u{1B}[2J") == "/a?ERROR b?[2J")
  }
}

@Suite struct JSONTests {
  @Test func textsAreEscaped() {
    let value = JSON.object([
      ("a\"b", .string("\\\n\u{1}é")), ("n", .optional(nil)),
      ("l", .array([.number(1), .bool(true)])),
    ])
    #expect(
      String(decoding: value.encoded, as: UTF8.self)
        == #"{"a\"b":"\\\u000a\u0001é","n":null,"l":[1,true]}"#)
  }
}

@Suite struct PolicyTextTests {
  @Test func bothPartsInAnyOrder() {
    let expected = PolicyText(content: .sealedCompressed, names: .plain)
    #expect(PolicyText(Array("sealed-compressed,names=plain".utf8)) == expected)
    #expect(PolicyText(Array("names=plain,sealed-compressed\n".utf8)) == expected)
    #expect(PolicyText(Array(expected.text.utf8)) == expected)
  }

  @Test func onePartLeavesTheOther() {
    #expect(PolicyText(Array("plain\0".utf8)) == PolicyText(content: .plain, names: nil))
    #expect(PolicyText(Array("names=sealed".utf8)) == PolicyText(content: nil, names: .sealed))
  }

  @Test(arguments: [
    "", "\n", "secret", "plain,plain", "plain,", "names=", "names=plain,names=plain",
  ])
  func anythingElseIsRefused(_ text: String) {
    #expect(PolicyText(Array(text.utf8)) == nil)
  }
}
