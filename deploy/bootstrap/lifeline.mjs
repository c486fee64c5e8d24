// Preloaded into every script that relay.cjs starts: ends the script when the relay is gone, however it went.
// Owns: one inherited pipe that nobody ever writes to; its end means that the other side no longer exists.
// Does not own: shutting down. The script gets SIGTERM like from anybody else, and SIGKILL only if it does not react.

import { Socket } from 'node:net'
import { isMainThread } from 'node:worker_threads'

const REACT_WITHIN_MS = 15_000

const fd = process.env.DELTAWATCH_LIFELINE_FD
// Removed, so that the script's own children, for whom that number means something else, do not take it for theirs.
delete process.env.DELTAWATCH_LIFELINE_FD

if (fd !== undefined && isMainThread) {
  const pipe = new Socket({ fd: Number(fd), readable: true, writable: false })
  pipe.on('error', () => {})
  pipe.on('close', () => {
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), REACT_WITHIN_MS).unref()
    process.kill(process.pid, 'SIGTERM')
  })
  pipe.resume()
  pipe.unref()
}
