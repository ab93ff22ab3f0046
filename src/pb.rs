//! Generated protobuf code: the only place that names it.
