//! Identities that hold in every process: of a message, and of a bundle that has no id.

use xxhash_rust::xxh3::xxh3_128;

/// Tells a message of the platform, which has no `message_id`: a hash of its body.
pub fn of_message(body: &[u8]) -> u128 {
    xxh3_128(body)
}

/// The id of a bundle that has none. It is the same at each try and in each worker: the platform uses it as
/// the key of a long rule operation.
pub fn bundle_id(body: &[u8]) -> String {
    let hash = of_message(body);
    // RFC 9562, version 8: the bits are of our own choosing.
    let version = (hash & !(0xf << 76)) | (8 << 76);
    let bits = (version & !(0b11 << 62)) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "bundle--{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_id_is_a_uuid_that_follows_from_the_body() {
        let id = bundle_id(b"body");
        assert_eq!(id, bundle_id(b"body"));
        assert_ne!(id, bundle_id(b"other"));
        let parts: Vec<_> = id["bundle--".len()..].split('-').collect();
        assert_eq!(
            parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
        assert!(parts[2].starts_with('8'));
        assert!(parts[3].starts_with(['8', '9', 'a', 'b']));
    }
}
