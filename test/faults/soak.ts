// npm run soak [-- --minutes n ...]: every scenario, again and again, until a million events were judged or longer.
// Owns: nothing but the defaults of a soak; main.ts does the work and takes the same options.

if (!process.argv.includes('--minutes')) process.argv.push('--minutes', '60')
if (!process.argv.includes('--rounds')) process.argv.push('--rounds', '6')
await import('./main.ts')
