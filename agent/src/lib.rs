//! Trimtab: one small daemon that holds a Kubernetes node at what a profile says.
