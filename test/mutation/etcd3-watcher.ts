// Broken on purpose: the watch port served by etcd3's own Watcher, reconnects and all.
// Owns: that one replacement; every read goes the product's way.
// What it then loses is its own doing: after each response it moves its start to the store's head.

import { Etcd3 } from 'etcd3'
import { addRevision } from '#protocol/revision.ts'
import { keyToBytes } from '#protocol/bytes.ts'
import { type ConnectEtcd, connectEtcd as connectForReal, EtcdFailure } from '#agent/watch/etcd.ts'

export * from '#agent/watch/etcd.ts'

const ALL = Buffer.from([0])

export const connectEtcd: ConnectEtcd = (options) => {
  const member = connectForReal(options)
  const client = new Etcd3({
    hosts: options.endpoint,
    grpcOptions: {
      'grpc.max_receive_message_length': -1,
      'grpc.keepalive_time_ms': options.keepaliveMs,
      'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs,
      'grpc.use_local_subchannel_pool': 1,
    },
  })
  return {
    ...member,
    watch: async ({ range, startRevision }, sink) => {
      const start = range.from === '' ? ALL : Buffer.from(keyToBytes(range.from))
      const end = range.to === undefined ? ALL : Buffer.from(keyToBytes(range.to))
      const watcher = client.watch().inRange({ start, end }).startRevision(addRevision(startRevision, 0)).watcher()
      let over = false
      let created = false
      watcher.on('connected', (answer: unknown) => {
        // The machine above knows one stream with one creation; that there were more is hidden, as it is from applications.
        if (!created && !over) sink.message(answer)
        created = true
      })
      watcher.on('data', (answer: unknown) => {
        if (!over) sink.message(answer)
      })
      watcher.on('error', (error: Error) => {
        if (!over) sink.closed(new EtcdFailure('other', error.message))
        over = true
      })
      const close = (): void => {
        over = true
        void watcher.cancel().catch(() => undefined)
      }
      return { pause: () => undefined, resume: () => undefined, requestProgress: () => undefined, close }
    },
    [Symbol.dispose]: () => {
      member[Symbol.dispose]()
      client.close()
    },
  }
}
