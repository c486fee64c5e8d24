// npm run soak [-- --minutes n | --events n | --resume ...]: every scenario, again and again, until a million events were judged.
// Owns: nothing but the defaults of a soak: a load of large transactions, so that a million events take minutes and not hours.
// In slices: `npm run soak -- --minutes 9`, then `npm run soak -- --minutes 9 --resume` until the goal is reached.

const DEFAULTS: Readonly<Record<string, string>> = {
  '--totals': 'soak',
  '--minutes': '60',
  '--events': '1000000',
  '--rounds': '2',
  '--max-ops': '100',
  '--transactions': '0.5',
  '--keys': '1000',
  '--per-second': '150',
}
for (const [option, value] of Object.entries(DEFAULTS)) {
  if (!process.argv.some((arg) => arg === option || arg.startsWith(`${option}=`))) process.argv.push(option, value)
}
await import('./main.ts')
