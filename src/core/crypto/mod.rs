//! Ids, signature schemes, key agreement, AEAD and the key schedule.
