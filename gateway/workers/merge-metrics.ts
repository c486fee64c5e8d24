// The metrics of several workers as one exposition.
// Owns: adding up counters and histograms, and keeping gauges apart by worker (a sum of ages means nothing).
// Refuses: parsing more than the text format the workers themselves wrote.

type Family = { help: string; type: string; readonly lines: Map<string, number> }

/** `texts` by worker number. */
export function mergeMetrics(texts: ReadonlyMap<number, string>): string {
  const families = new Map<string, Family>()
  for (const [worker, text] of texts) {
    let family: Family | undefined
    for (const line of text.split('\n')) {
      const meta = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line)
      if (meta !== null) {
        family = familyOf(families, meta[2] as string)
        if (meta[1] === 'HELP') family.help = meta[3] as string
        else family.type = meta[3] as string
        continue
      }
      const sample = /^([^\s{]+)(\{.*\})? (\S+)$/.exec(line)
      if (sample === null || family === undefined) continue
      const [, name = '', labels = '', value = ''] = sample
      const series = family.type === 'gauge' ? name + withWorker(labels, worker) : name + labels
      family.lines.set(series, (family.lines.get(series) ?? 0) + Number(value))
    }
  }
  let out = ''
  for (const [name, { help, type, lines }] of families) {
    out += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
    for (const [series, value] of lines) out += `${series} ${Number.isNaN(value) ? 'Nan' : value}\n`
  }
  return out
}

function familyOf(families: Map<string, Family>, name: string): Family {
  let family = families.get(name)
  if (family === undefined) families.set(name, (family = { help: '', type: 'untyped', lines: new Map() }))
  return family
}

const withWorker = (labels: string, worker: number): string =>
  labels === '' ? `{worker="${worker}"}` : `${labels.slice(0, -1)},worker="${worker}"}`
