//go:build tools

// Package toolchain pins etcd 3.6 for compatibility tests; see ../tools.go.
package toolchain

import _ "go.etcd.io/etcd/server/v3"
