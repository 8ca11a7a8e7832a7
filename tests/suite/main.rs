//! Tests of the library from outside, in one binary because linking is slow.

mod backup_restore;
mod ceph;
mod decode_any;
mod fixture;
mod golden_bytes;
mod reader;
mod safety;
mod store_contract;
mod store_faults;
mod store_local;
mod store_s3;
