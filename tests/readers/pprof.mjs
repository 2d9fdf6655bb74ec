// Reads a pprof profile by pprof-format, which is not ours, and prints what a test compares: the sums of each type, and
// the frames of the sample with the most surviving bytes. Usage: node pprof.mjs FOLDER FILE
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { gunzipSync } from 'node:zlib';

const [folder, file] = process.argv.slice(2);
const { Profile } = createRequire(`${folder}/`)('pprof-format');
const profile = Profile.decode(gunzipSync(readFileSync(file)));
const text = (index) => profile.stringTable.strings[Number(index)];
const types = profile.sampleType.map((type) => `${text(type.type)}/${text(type.unit)}`);
const sums = types.map((_, index) => profile.sample.reduce((sum, sample) => sum + BigInt(sample.value[index]), 0n).toString());
const [locations, functions, mappings] = [profile.location, profile.function, profile.mapping]
  .map((rows) => new Map(rows.map((row) => [BigInt(row.id), row])));
const most = profile.sample.reduce((one, other) => (BigInt(other.value[3]) > BigInt(one.value[3]) ? other : one));
const frames = most.locationId.map((id) => {
  const location = locations.get(BigInt(id));
  const line = location.line[0], found = functions.get(BigInt(line.functionId));
  return `${text(found.name)} ${text(found.filename)}:${line.line} ${text(mappings.get(BigInt(location.mappingId)).filename)}`;
});
const labels = most.label.map((label) => `${text(label.key)}=${Number(label.str) ? text(label.str) : label.num}`);
console.log(JSON.stringify({ types, sums, frames, labels, strings: profile.stringTable.strings, shown: text(profile.defaultSampleType) }));
