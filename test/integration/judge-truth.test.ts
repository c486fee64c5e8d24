// The judge's truth against a real etcd: acknowledgements completed by reads at revision replay to what etcd holds.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { History } from '../judge/truth.ts'
import { Writer } from '../judge/writer.ts'
import { startEtcd } from '../support/etcd.ts'

describe('truth', () => {
  it('replays to what etcd holds, at the end and on the way, also where acknowledgements are missing', async () => {
    await using etcd = await startEtcd()
    using http = new EtcdHttp(etcd.clientUrl)
    const history = await History.startingAt(http)
    await using writer = new Writer({ url: etcd.clientUrl, seed: 11, keys: 60 })
    await writer.write(600)
    const lost = new Map([...writer.acks.byRevision].filter(([revision]) => revision % 3 !== 0))
    await history.extend(http, lost, await http.head())
    assert.equal(writer.unknown, 0)
    assert.ok(history.readBack > 100, `only ${history.readBack} revisions were read back`)
    await history.verify(http)
    const middle = Math.floor((history.from + history.to) / 2)
    await history.verify(http, middle)
    const complete = new History(history.from)
    await complete.extend(http, writer.acks.byRevision, history.to)
    for (let r = history.from + 1; r <= history.to; r++) {
      const [a, b] = [history.at(r), complete.at(r)]
      const sorted = (events: readonly { readonly key: string }[] | undefined) =>
        [...(events ?? [])].sort((x, y) => (x.key < y.key ? -1 : 1))
      assert.deepEqual(sorted(a?.events), sorted(b?.events), `revision ${r}`)
    }
  })

  it('fails instead of guessing when a revision is neither acknowledged nor readable', async () => {
    await using etcd = await startEtcd()
    using http = new EtcdHttp(etcd.clientUrl)
    const history = await History.startingAt(http)
    await http.write([{ op: 'put', key: '/a', value: Buffer.from('1') }])
    const { revision } = await http.write([{ op: 'put', key: '/a', value: Buffer.from('2') }])
    await http.compact(revision)
    await assert.rejects(history.extend(http, new Map(), revision), /compacted/)
  })
})
