//! The one integration-test binary: DataFusion links slowly, so all modules share one link.

mod architecture;
