// The last will of a parent process: children and scratch directories that must not outlive it.
// Owns: one small shell process that reads a pipe only the parent holds. However the parent ends (return, crash, SIGKILL),
// the kernel closes the pipe; the shell then kills what is still listed, removes the listed directories and ends.
// Does not own: orderly stopping. Whoever starts a child stops it; this is only what happens when nobody is left to do so.
// A pipe rather than a parent-death signal: it needs no privileged tool, works on every POSIX system and covers crashes.

import { spawn } from 'node:child_process'
import { Socket } from 'node:net'

// INT, TERM and HUP are ignored, because a terminal sends them to the whole group and this process must be the last one.
// A directory is removed only when its last path segment begins with "deltawatch-": nothing else is ever ours to delete.
const SCRIPT = `
trap '' INT TERM HUP QUIT
pids=' '
dirs=''
while IFS= read -r line; do
  arg="\${line#? }"
  case "$line" in
    '+ '*) pids="$pids$arg " ;;
    '- '*) case "$pids" in *" $arg "*) pids="\${pids%%" $arg "*} \${pids#*" $arg "}" ;; esac ;;
    'd '*) dirs="$dirs$arg
" ;;
  esac
done
for pid in $pids; do kill -9 -- "-$pid" 2>/dev/null || kill -9 "$pid" 2>/dev/null; done
printf '%s' "$dirs" | while IFS= read -r dir; do
  case "\${dir##*/}" in deltawatch-*) rm -rf -- "$dir" ;; esac
done
`

export interface Reaper {
  /** Kill this process (and its group, when it leads one) should the parent end first. */
  guard(pid: number): void
  /** The process has ended; its id may now belong to somebody else. */
  release(pid: number): void
  /** Remove this scratch directory (named `deltawatch-…`) once the parent is gone. A directory already removed is no error. */
  discard(dir: string): void
}

/** Starts the shell on first use. It does not keep the parent's event loop alive. */
export function createReaper(): Reaper {
  let pipe: Socket | undefined
  const tell = (line: string): void => {
    pipe ??= open()
    pipe.write(`${line}\n`)
  }
  return {
    guard: (pid) => tell(`+ ${pid}`),
    release: (pid) => tell(`- ${pid}`),
    discard: (dir) => {
      if (!dir.includes('\n')) tell(`d ${dir}`)
    },
  }
}

function open(): Socket {
  const child = spawn('/bin/sh', ['-c', SCRIPT], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  child.on('error', () => {})
  child.unref()
  const stdin = child.stdin
  stdin.on('error', () => {}) // a reaper that was killed must not take the parent with it
  // A pipe made by spawn is a net.Socket; the type says only Writable, which has no unref.
  if (!(stdin instanceof Socket)) throw new TypeError('reaper: stdin of a child is not a socket')
  stdin.unref()
  return stdin
}
