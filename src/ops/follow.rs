//! `follow`: databases are followed as they change, and every change is published.

pub mod status;
