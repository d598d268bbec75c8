// Compiles WGSL with Tint, the compiler of Dawn, which proves that barriers and subgroup operations lie in uniform control
// flow. Reads [{ label, code }] as JSON from standard input and writes [{ label, messages }] for those refused.
// Takes one argument: a folder in which `npm install webgpu` was run. Needs no GPU.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(join(resolve(process.argv[2]), 'package.json'));
const { create, globals } = await import(pathToFileURL(require.resolve('webgpu')));
Object.assign(globalThis, globals);

const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16', 'subgroups'] });
// Refusals are read from the modules; without a scope Dawn would print each of them.
device.onuncapturederror = () => {};

const refused = [];
for (const { label, code } of JSON.parse(readFileSync(0, 'utf8'))) {
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ label, code });
    const { messages } = await module.getCompilationInfo();
    const error = await device.popErrorScope();
    const lines = messages.filter((m) => m.type !== 'info' || error).map((m) => `${m.lineNum}: ${m.message}`);
    if (error && lines.length === 0) {
        lines.push(error.message);
    }
    if (lines.length > 0) {
        refused.push({ label, messages: lines });
    }
}
process.stdout.write(JSON.stringify(refused), () => process.exit(0));
