// The system's Chromium, driven without a download of its own.
// Owns: finding it, starting it headless, and saying plainly what to install when there is none.
// Refuses: passing in silence: on a build machine (CI) a missing browser is a failure.

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type Browser, chromium } from 'playwright-core'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome', 'microsoft-edge']
const ADVICE =
  'no Chromium: install one (Debian: apt-get install chromium) or name its executable in DELTAWATCH_CHROMIUM'

export type Found = { readonly path: string } | { readonly missing: string }

export function findChromium(env: NodeJS.ProcessEnv = process.env): Found {
  const named = env['DELTAWATCH_CHROMIUM']
  if (named !== undefined && named !== '') {
    return isExecutable(named) ? { path: named } : { missing: `DELTAWATCH_CHROMIUM: ${named} cannot be executed` }
  }
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    for (const name of NAMES) {
      const path = join(folder, name)
      if (folder !== '' && isExecutable(path)) return { path }
    }
  }
  return { missing: ADVICE }
}

/** For node:test: false to run, or the reason to skip. On a build machine the tests run, and fail with that reason. */
export function skipWithout(found: Found, env: NodeJS.ProcessEnv = process.env): string | false {
  const ci = env['CI'] ?? ''
  return 'missing' in found && (ci === '' || ci === 'false') ? found.missing : false
}

export async function launch(found: Found): Promise<Browser> {
  if ('missing' in found) throw new Error(found.missing)
  const args = ['--disable-gpu', '--disable-dev-shm-usage', '--no-first-run']
  // Chromium refuses its own sandbox to root.
  if (process.getuid?.() === 0) args.push('--no-sandbox')
  return await chromium.launch({ executablePath: found.path, headless: true, timeout: 60_000, args })
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
