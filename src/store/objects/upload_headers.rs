//! The headers that an upload carries beside its bytes, which opendal writes: what kind of content it is, and what the server is
//! given to check it by. Those of requests that opendal does not make stand where these are made: of locks in `lock`.

#[cfg(feature = "s3")]
use opendal::services::S3;

use crate::store::bucket_options::Checksum;
use crate::store::location::Bucket;

/// What each object is said to hold. A store that is told nothing keeps an object of no type, which some list as `null`.
pub(super) const BYTES: &str = "application/octet-stream";

/// What a server is given to check the bytes by, also where that was left open.
pub(super) fn checksum(bucket: &Bucket) -> Checksum {
    match bucket.options.checksum {
        Checksum::Auto if bucket.options.endpoint.is_none() => Checksum::Crc32c,
        told => told,
    }
}

/// Has each request of an upload carry that.
#[cfg(feature = "s3")]
pub(super) fn with_checksum(service: S3, bucket: &Bucket) -> S3 {
    match checksum(bucket) {
        Checksum::Crc32c => service.checksum_algorithm("crc32c"),
        Checksum::Md5 => service.checksum_algorithm("md5"),
        Checksum::Auto | Checksum::Off => service,
    }
}
