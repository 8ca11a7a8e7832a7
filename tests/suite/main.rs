//! Tests of the library from outside, in one binary because linking is slow.

mod ceph;
mod decode_any;
mod golden_bytes;
mod reader;
mod store_contract;
mod store_faults;
mod store_local;
mod store_s3;
