// Tests that prove a rule of protocol/SPEC.md without carrying its id in their names.
// Owns: nothing but this list; the contract test fails when one of them is renamed or gone.

const agent = 'test/integration/agent'
const upstream = 'test/integration/gateway-upstream'
const session = 'test/integration/gateway-session'

/** Rule, file, name of the test as its source spells it. */
export const PROOFS: readonly (readonly [rule: string, file: string, name: string])[] = [
  [
    'L5',
    'test/unit/policies/egress.test.ts',
    'a key in view whose new put is denied leaves; a delete is decided on the previous value',
  ],
  ['L9', `${agent}/hub.test.ts`, 'a deleted tail message means an unknown position, never a guess'],
  ['L10', `${agent}/hub.test.ts`, 'a purged stream means an unknown position: a new epoch at the last sequence'],
  [
    'L10',
    `${agent}/hub.test.ts`,
    'a foreign message at the tail is no entry: the position is unknown, and the log goes on behind it',
  ],
  [
    'L15',
    `${upstream}/stream-identity.test.ts`,
    'a stream that was deleted and made again: resync to the new lineage, deletes included',
  ],
  [
    'L16',
    `${agent}/lineage.test.ts`,
    'a quiet range stays resumable after compaction, away or connected, by the proof of its state',
  ],
  [
    'K1',
    'test/model/gateway-upstream/view.test.ts',
    'a log read from any of its complete checkpoints gives the same state',
  ],
  ['K3', `${agent}/hub.test.ts`, 'routine checkpoints by size keep a small stream readable from its newest one'],
  ['K5', `${upstream}/follow.test.ts`, 'a fresh gateway loads the newest checkpoint and everything after it'],
  [
    'K5',
    'test/model/gateway-upstream/view.test.ts',
    'a log trimmed anywhere is picked up at its next complete checkpoint',
  ],
  [
    'K6',
    `${agent}/lineage.test.ts`,
    'compaction past the position of an absent agent means a new epoch and a full checkpoint, never a silent gap',
  ],
  ['B2', `${upstream}/bookmarks.test.ts`, 'a bookmark of another entry, epoch or configuration proves nothing'],
  ['B4', 'test/unit/protocol/fold.test.ts', 'the published vectors hold'],
  ['B5', `${session}/watch.test.ts`, 'bookmarks: within a second of a change, and right before the goodbye of a drain'],
  [
    'S3',
    `${session}/hostile.test.ts`,
    'before hello: another frame closes with 4002, garbage with 4000, silence with 4102, no common version with 4001',
  ],
  ['S4', `${session}/hostile.test.ts`, 'half-open peers are found by pings nobody answers'],
  [
    'S4',
    'test/unit/client/connection.test.ts',
    'that is quiet is pinged, then given up and dialled again; any frame keeps it',
  ],
  ['S5', `${session}/watch.test.ts`, 'channels: the same watch on two connections has one number and one encoding'],
  ['S8', 'test/unit/client/fold.test.ts', 'a snapshot is one change, at its end'],
  [
    'S8',
    'test/integration/client/state.test.ts',
    'keeps the old state whole until a resync is repaired, then reports only what differs',
  ],
  [
    'S9',
    'test/unit/client/fold.test.ts',
    'a difference in state mode is staged until its last chunk, and lost with the connection',
  ],
  ['S10', 'test/integration/client/watch.test.ts', 'a cluster that comes is snapshotted, one that goes is told'],
  ['S11', `${session}/watch.test.ts`, 'policy: a change is repaired by scope and difference, in place'],
  ['S12', `${session}/hostile.test.ts`, 'a connection ends at its lifetime with the cursor in hand'],
  ['S13', `${session}/auth.test.ts`, 'a session ends at the expiry of its token, unless it is refreshed in band'],
  ['S14', `${session}/http.test.ts`, 'events: snapshot, frames with ids, and Last-Event-ID resumes exactly behind one'],
  [
    'S15',
    `${session}/http.test.ts`,
    'state: pages pinned to one revision, continued by another gateway, with ETag and cursor',
  ],
  ['S16', `${session}/http.test.ts`, 'cloudevents.json: every message is one event that the SDK parses and validates'],
  ['R1', `${session}/watch.test.ts`, 'a cursor resumes on another connection with nothing twice and nothing missing'],
  ['R2', `${session}/watch.test.ts`, 'start now: no snapshot, and a resync tells the new position alone'],
  ['R3', `${upstream}/bookmarks.test.ts`, 'a view ahead of its log gives way after its time, and says so'],
  ['R5', `${session}/watch.test.ts`, 'a key that becomes hidden leaves, a cluster that is hidden does not exist'],
  [
    'R6',
    `${session}/watch.test.ts`,
    'a cursor of another selector or damaged is answered, and the connection lives on',
  ],
  [
    'R8',
    'test/e2e/input.test.ts',
    'a cursor that cannot be decoded is an error of that watch, and the connection lives on',
  ],
  ['R9', 'test/integration/client/watch.test.ts', 'a cluster that comes is snapshotted, one that goes is told'],
  [
    'R10',
    `${upstream}/replay.test.ts`,
    'a replay never crosses a policy checkpoint, and what was trimmed is said to be',
  ],
  ['V5', `${session}/watch.test.ts`, 'values travel byte for byte: large numbers, empty, text, binary, 1.4 MB'],
  ['V6', 'test/unit/policies/deliver.test.ts', 'what egress withheld stays withheld, under its own rule'],
  ['V7', `${session}/http.test.ts`, 'hideActivity: a class learns of its own revisions and of no other'],
  [
    'X3',
    `${session}/hostile.test.ts`,
    'connections per address, per subject, unauthenticated and in total are bounded, and given back',
  ],
  ['X3', `${session}/hostile.test.ts`, 'a flood of pings or frames closes with 4100'],
  [
    'X4',
    `${session}/slow.test.ts`,
    'forty stalled readers hold at most maxInFlight each, a healthy one gets everything, the stalled are reset and counted',
  ],
  ['P2', `${session}/watch.test.ts`, 'a key that becomes hidden leaves, a cluster that is hidden does not exist'],
  ['P3', `${session}/http.test.ts`, 'hideActivity: a class learns of its own revisions and of no other'],
  ['P4', `${session}/http.test.ts`, 'tickets: single use, bound to the origin that asked'],
  [
    'T3',
    `${upstream}/lifecycle.test.ts`,
    'an entry kind this gateway does not know stops that cluster alone, and says so',
  ],
]
