//! Compression of what is large: lists and the page.

use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// Bytes below which compressing is not worth it.
const SMALL: u16 = 1_024;

/// Compresses answers for clients that can read that. The stream of events compresses itself: once for all clients.
pub(super) fn layer() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(SMALL).and(NotForContentType::SSE))
}
