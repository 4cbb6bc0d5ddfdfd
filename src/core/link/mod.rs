//! Room of its own; see the design.
