// Broken on purpose: an old server's answers to progress requests are taken at their word, and asked for often.
// Owns: that one mistake. Such answers are not ordered with events there, so they run ahead of what a catching-up watch still owes.

import { type ConnectEtcd, connectEtcd as connectForReal } from '#agent/watch/etcd.ts'
import { tapped } from './tapped.ts'

export * from '#agent/watch/etcd.ts'

/** From the creation on, as one asks who wants to know at any price. */
const ASK_EVERY_MS = 2
const ASKS = 400

export const connectEtcd: ConnectEtcd = tapped(connectForReal, {
  version: '3.5.21',
  after: (response, _say, watch) => {
    if (!response.created) return watch?.requestProgress()
    let asked = 0
    const timer = setInterval(() => {
      watch?.requestProgress()
      asked += 1
      if (asked >= ASKS) clearInterval(timer)
    }, ASK_EVERY_MS)
    timer.unref()
  },
})
