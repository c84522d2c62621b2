"""The contenders, a file each; a file imports its own library only and has a function per workload."""
