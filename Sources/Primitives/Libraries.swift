import CCrypto
import CZstd

/// The libraries this program found when it started, for messages.
public enum Libraries {
  /// libcrypto's name, version and date.
  public static var crypto: String {
    OpenSSL_version(OPENSSL_VERSION).map { String(cString: $0) } ?? "libcrypto"
  }

  /// libzstd's name and version.
  public static var compression: String {
    ZSTD_versionString().map { "zstd \(String(cString: $0))" } ?? "zstd"
  }
}
