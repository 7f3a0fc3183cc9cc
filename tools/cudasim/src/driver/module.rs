//! Modules and their functions.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::{
    Answer, FILE_NOT_FOUND, Function, Handle, INVALID_PTX, INVALID_VALUE, LoadedModule, NO_BINARY_FOR_GPU, NOT_FOUND,
    Needs, Object, State, UNSUPPORTED_PTX_VERSION, call, handle, index, put, refuse, text,
};
use crate::decode::decode;
use crate::devices::{DEFAULT_SHARED, MAX_THREADS};
use crate::ptx::{Space, contract, parse};

impl State {
    fn load(&mut self, to: *mut Handle, source: &str) -> Answer {
        let ptx_error = |e: crate::ptx::PtxError| refuse(INVALID_PTX, e.to_string());
        let mut module = parse(source).map_err(ptx_error)?;
        if let Some(seed) = self.config.contract {
            module.kernels.iter_mut().for_each(|kernel| contract(kernel, seed));
        }
        let device = self.config.device;
        if module.target > device.capability() {
            let text =
                format!("PTX for sm_{} does not run on sm_{} ({})", module.target, device.capability(), device.key);
            return Err(refuse(NO_BINARY_FOR_GPU, text));
        }
        if module.version > (8, 0) {
            let (major, minor) = module.version;
            return Err(refuse(
                UNSUPPORTED_PTX_VERSION,
                format!("PTX {major}.{minor} is newer than this driver (8.0)"),
            ));
        }
        let (mut addresses, mut globals) = (HashMap::new(), Vec::new());
        for v in module.variables.iter().filter(|v| matches!(v.space, Space::Global | Space::Const)) {
            let address = self.memory.allocate(u64::from(v.size), &format!("variable {}", v.name), false);
            let mut initial = v.initial.clone();
            initial.resize(v.size as usize, 0);
            self.memory.write(address, &initial).map_err(|e| refuse(INVALID_PTX, e.0))?;
            addresses.insert(v.name.clone(), address);
            globals.push((v.name.clone(), address, u64::from(v.size)));
        }
        let programs = match decode(&module, &addresses) {
            Ok(programs) => programs,
            Err(e) => {
                for (_, address, _) in &globals {
                    let _ = self.memory.free(*address);
                }
                return Err(ptx_error(e));
            }
        };
        let number = self.modules.len();
        let mut functions = Vec::new();
        for program in programs {
            functions.push((program.name.clone(), self.functions.len()));
            self.functions.push(Function { program: Arc::new(program), module: number, max_dynamic: 0 });
        }
        self.modules.push(LoadedModule { functions, globals, unloaded: false });
        put(to, handle(Object::Module, number))
    }

    fn module(&mut self, module: Handle) -> Answer<&mut LoadedModule> {
        let number = index(Object::Module, module)?;
        let module = self.modules.get_mut(number).filter(|m| !m.unloaded);
        module.ok_or_else(|| refuse(INVALID_VALUE, "the module was unloaded"))
    }

    pub fn function(&mut self, function: Handle) -> Answer<&mut Function> {
        let number = index(Object::Function, function)?;
        let unloaded = self.functions.get(number).is_none_or(|f| self.modules[f.module].unloaded);
        if unloaded {
            return Err(refuse(super::INVALID_HANDLE, "the function's module was unloaded"));
        }
        Ok(&mut self.functions[number])
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(to: *mut Handle, image: *const c_void) -> u32 {
    call("cuModuleLoadData", Needs::Context, |s| {
        let source = text(image.cast())?;
        s.load(to, &source)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadDataEx(
    to: *mut Handle,
    image: *const c_void,
    _count: c_uint,
    _options: *mut c_int,
    _values: *mut *mut c_void,
) -> u32 {
    cuModuleLoadData(to, image)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoad(to: *mut Handle, path: *const c_char) -> u32 {
    call("cuModuleLoad", Needs::Context, |s| {
        let path = text(path)?;
        let source = std::fs::read_to_string(&path).map_err(|e| refuse(FILE_NOT_FOUND, format!("{path}: {e}")))?;
        s.load(to, &source)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: Handle) -> u32 {
    call("cuModuleUnload", Needs::Context, |s| {
        let m = s.module(module)?;
        m.unloaded = true;
        for (_, address, _) in m.globals.clone() {
            s.memory.free(address).map_err(|e| refuse(INVALID_VALUE, e.0))?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(to: *mut Handle, module: Handle, name: *const c_char) -> u32 {
    call("cuModuleGetFunction", Needs::Context, |s| {
        let name = text(name)?;
        let functions = &s.module(module)?.functions;
        let Some((_, number)) = functions.iter().find(|(n, _)| *n == name) else {
            let known: Vec<&str> = functions.iter().map(|(n, _)| n.as_str()).collect();
            return Err(refuse(NOT_FOUND, format!("no kernel `{name}`; the module has {}", known.join(", "))));
        };
        put(to, handle(Object::Function, *number))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetGlobal_v2(address: *mut u64, len: *mut usize, module: Handle, name: *const c_char) -> u32 {
    call("cuModuleGetGlobal", Needs::Context, |s| {
        let name = text(name)?;
        let Some((_, at, size)) = s.module(module)?.globals.iter().find(|(n, _, _)| *n == name).cloned() else {
            return Err(refuse(NOT_FOUND, format!("no variable `{name}`")));
        };
        if !address.is_null() {
            put(address, at)?;
        }
        if len.is_null() { Ok(()) } else { put(len, size as usize) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(value: *mut c_int, attribute: c_int, function: Handle) -> u32 {
    call("cuFuncGetAttribute", Needs::Context, |s| {
        let f = s.function(function)?;
        let p = &f.program;
        let found = match attribute {
            0 => p.max_threads.unwrap_or(MAX_THREADS).min(MAX_THREADS) as i32,
            1 => p.static_shared as i32,
            2 => 0,
            3 => p.local_bytes as i32,
            4 => p.register_estimate as i32,
            5 => p.target as i32,
            6 => s.config.device.capability() as i32,
            7 => 0,
            8 => f.max_dynamic.max(DEFAULT_SHARED.saturating_sub(p.static_shared)) as i32,
            9 => -1,
            _ => return Err(refuse(INVALID_VALUE, format!("unknown attribute {attribute}"))),
        };
        put(value, found)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) -> u32 {
    call("cuFuncSetAttribute", Needs::Context, |s| {
        let device = s.config.device;
        let f = s.function(function)?;
        match attribute {
            8 => {
                let most = device.shared_per_block.saturating_sub(f.program.static_shared);
                if value < 0 || value as u32 > most {
                    let text = format!(
                        "kernel {} asks for {value} bytes of dynamic shared memory; {} has {} for a block, of which the \
                         kernel declares {}",
                        f.program.name, device.key, device.shared_per_block, f.program.static_shared
                    );
                    return Err(refuse(INVALID_VALUE, text));
                }
                f.max_dynamic = value as u32;
                Ok(())
            }
            9 => Ok(()),
            _ => Err(refuse(INVALID_VALUE, format!("attribute {attribute} cannot be set"))),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(function: Handle, _config: c_int) -> u32 {
    call("cuFuncSetCacheConfig", Needs::Context, |s| s.function(function).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: *mut c_int,
    function: Handle,
    threads: c_int,
    dynamic: usize,
) -> u32 {
    call("cuOccupancyMaxActiveBlocksPerMultiprocessor", Needs::Context, |s| {
        let device = s.config.device;
        let f = s.function(function)?;
        let found = resident(f, device, threads.max(0) as u32, dynamic as u32);
        put(blocks, found as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    blocks: *mut c_int,
    function: Handle,
    threads: c_int,
    dynamic: usize,
    _flags: c_uint,
) -> u32 {
    cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, dynamic)
}

/// Blocks of a function that one multiprocessor holds.
pub(super) fn resident(f: &Function, device: &crate::devices::Device, threads: u32, dynamic: u32) -> u32 {
    let shared = f.program.dynamic_offset.max(f.program.static_shared) + dynamic;
    if shared > device.shared_per_block || threads > f.program.max_threads.unwrap_or(MAX_THREADS) {
        return 0;
    }
    device.blocks_per_sm(threads, shared, f.program.register_estimate)
}

type SharedOfBlock = Option<extern "C" fn(c_int) -> usize>;

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSize(
    grid: *mut c_int,
    block: *mut c_int,
    function: Handle,
    shared_of: SharedOfBlock,
    dynamic: usize,
    limit: c_int,
) -> u32 {
    call("cuOccupancyMaxPotentialBlockSize", Needs::Context, |s| {
        let device = s.config.device;
        let f = s.function(function)?;
        let limit = if limit > 0 { limit as u32 } else { MAX_THREADS };
        let most = f.program.max_threads.unwrap_or(MAX_THREADS).min(limit).min(MAX_THREADS);
        let (mut best, mut best_threads, mut best_blocks) = (0, 0, 0);
        for threads in (1..=most / 32).rev().map(|warps| warps * 32) {
            let bytes = shared_of.map_or(dynamic, |g| g(threads as c_int)) as u32;
            let blocks = resident(f, device, threads, bytes);
            if blocks * threads > best {
                (best, best_threads, best_blocks) = (blocks * threads, threads, blocks);
            }
        }
        put(grid, best_blocks as c_int * device.sms)?;
        put(block, best_threads as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    grid: *mut c_int,
    block: *mut c_int,
    function: Handle,
    shared_of: SharedOfBlock,
    dynamic: usize,
    limit: c_int,
    _flags: c_uint,
) -> u32 {
    cuOccupancyMaxPotentialBlockSize(grid, block, function, shared_of, dynamic, limit)
}
