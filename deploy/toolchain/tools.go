//go:build tools

// Package toolchain pins the real servers that deltawatch runs beside: nothing here is compiled into the product.
// The blank imports keep `go mod tidy` from dropping the requirements; go.sum holds every checksum.
package toolchain

import (
	_ "github.com/nats-io/nats-server/v2"
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/server/v3"
	_ "go.k6.io/k6/v2"
)
