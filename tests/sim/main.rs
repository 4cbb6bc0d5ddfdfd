//! Scenarios of whole networks. Every failure prints its seed; `TARNET_SIM_SEED` sets it.
