//go:build tools

// Package toolchain pins etcd 3.5 for compatibility tests; see ../tools.go.
package toolchain

import _ "go.etcd.io/etcd/server/v3"
