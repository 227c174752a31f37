//! Sets of logical CPUs, and their text form of the kernel and the kubelet (`0-3,8`).
