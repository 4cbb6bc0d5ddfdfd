//! The DHT's block.
