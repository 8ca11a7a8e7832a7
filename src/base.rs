//! Words that every layer uses: ids, instants, the clock, kinds of failure,
//! progress, and the wish to stop. Nothing here touches files or the network.

pub mod clock;
pub mod ids;
pub mod kind;
pub mod pause;
pub mod progress;
pub mod ranges;
pub mod source_name;
pub mod stop;
pub mod time;
pub mod units;

pub use clock::Clock;
pub use ids::{
    ChainId, ChunkId, KeyId, PackId, RecordId, RepositoryId, SnapshotId, StreamId, WriterId,
};
pub use kind::{Kind, error_chain};
pub use pause::pause;
pub use progress::Progress;
pub use ranges::Ranges;
pub use source_name::{NotASourceName, check_source_name, default_source_name};
pub use stop::Stop;
pub use time::UnixTime;
