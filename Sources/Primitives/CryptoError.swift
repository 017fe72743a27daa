/// Why a cryptographic operation gave no result.
public enum CryptoError: Error, Equatable, Sendable {
  /// The tag does not match: wrong key, wrong associated data, or changed bytes.
  case authenticationFailed
  /// The installed libcrypto does not offer this algorithm.
  case unavailable(algorithm: String)
  /// Parameters the algorithm does not allow, or that ask for more memory than permitted.
  case invalidParameters
  /// libcrypto could not get the memory the operation needs.
  case outOfMemory
}
