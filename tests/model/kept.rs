//! Histories in which model and scripts once differed, shrunk and kept.
