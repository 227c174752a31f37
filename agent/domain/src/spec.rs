//! The node specification: what a validated profile asks of this node, one type per subsystem.
