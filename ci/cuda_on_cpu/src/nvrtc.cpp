// Stands in for libnvrtc.so, CUDA's compiler: g++ makes a shared library of host code of it.
//
// Before the kernels' source comes include/device.h, where CUDA's words are C++; behind it come,
// for each kernel, a function that unpacks the arguments of a launch and one that names their
// types.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

extern char** environ;

namespace {

using std::string;

// nvrtcResult, as far as it is used
enum { SUCCESS = 0, OUT_OF_MEMORY = 1, COMPILATION = 6 };

struct Program {
  string source, name;
  std::map<string, string> headers;
  std::vector<string> expressions;  // names of instances of templates
  string log, image;
};

string slurp(const string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream all;
  all << file.rdbuf();
  return all.str();
}

bool exists(const string& path) { return access(path.c_str(), R_OK) == 0; }

// A folder that is gone, with what is in it, at the end of a block.
class Folder {
 public:
  Folder() {
    const char* base = getenv("TMPDIR");
    path = string(base ? base : "/tmp") + "/cuda-on-cpu-XXXXXX";
    made = mkdtemp(path.data()) != nullptr;
  }
  ~Folder() {
    for (auto& file : files) unlink(file.c_str());
    if (made) rmdir(path.c_str());
  }
  string file(const string& name) { return *files.insert(path + "/" + name).first; }

  string path;
  bool made;

 private:
  std::set<string> files;
};

// Run a program, its errors going to a file; return whether it ended well.
bool run(const std::vector<string>& words, const string& errors) {
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid;
  int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) {
    std::ofstream(errors) << argv[0] << ": " << strerror(failed) << "\n";
    return false;
  }
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// A source without its comments, in which words are looked for.
string without_comments(const string& source) {
  static const std::regex comment(R"re(//[^\n]*|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)re");
  return std::regex_replace(source, comment, " ");
}

// The names of a source's kernels that C++ gives no other names.
std::set<string> kernels_in(const string& source) {
  const string bounds = R"re((?:__launch_bounds__\s*\([^)]*\)\s*)?)re";
  const string kernel = "__global__\\s+void\\s+" + bounds + R"re(([A-Za-z_]\w*)\s*\()re";
  static const std::regex named(R"re(extern\s+"C"\s+)re" + bounds + kernel), any(kernel);
  // In a block `extern "C" { … }` the kernels don't say it themselves.
  static const std::regex opened(R"re(extern\s+"C"\s*\{)re");
  const std::regex& wanted = std::regex_search(source, opened) ? any : named;
  std::set<string> names;
  for (std::sregex_iterator i(source.begin(), source.end(), wanted), end; i != end; ++i)
    names.insert((*i)[1]);
  return names;
}

// Dynamic shared memory is an array without a length, which C++ has only outside of functions.
string with_dynamic_shared_memory(const string& source) {
  static const std::regex declaration(
      R"re(extern\s+__shared__\s+(?:__align__\s*\([^)]*\)\s*)?([A-Za-z_][\w ]*?)\s+([A-Za-z_]\w*)\s*\[\s*\]\s*;)re");
  return std::regex_replace(source, declaration,
                            "$1* $2 = reinterpret_cast<$1*>(coc_dynamic_shared);");
}

// CuPy's reductions are most of what waits, and 512 fibers take longer than the sums of 512 threads.
// All their kernels have one text, which is cut at its waits here: between two of them the threads
// run in a loop, one after the other, and what a thread keeps over a wait is computed again behind
// it. A kernel that isn't exactly so stays as it is.
string with_threads_in_loops(string source) {
  struct Piece {
    string before, after;
  };
  const Piece pieces[] = {
      {"  unsigned int _tid = threadIdx.x;\n", "  unsigned int _tid = 0;\n"},
      {"    _type_reduce _s = _type_reduce(",
       "    for (_tid = 0; _tid < blockDim.x; _tid++) {\n"
       "    _J_offset = _tid >> __popc(_block_stride - 1);\n"
       "    _j_offset = (ptrdiff_t)_J_offset * _out_ind.size();\n"
       "    _type_reduce _s = _type_reduce("},
      {"    _sdata[_tid] = _s;\n"
       "    __syncthreads();\n",
       "    _sdata[_tid] = _s;\n"
       "    }\n"},
      // each of these threads writes its own value, after it has read one that none of them writes
      {"      if (_tid < _block) {\n"
       "        _REDUCE(_block);\n"
       "      }\n"
       "      __syncthreads();\n",
       "      for (_tid = 0; _tid < _block; _tid++) {\n"
       "        _REDUCE(_block);\n"
       "      }\n"},
      {"    if (_tid < _block_stride) {\n"
       "      _s = _sdata[_tid];\n"
       "    }\n"
       "    if (_tid < _block_stride && _i < _out_ind.size()) {\n",
       "    for (_tid = 0; _tid < _block_stride && _i_base + _tid < _out_ind.size(); _tid++) {\n"
       "      ptrdiff_t _i = _i_base + _tid;\n"
       "      _type_reduce _s = _sdata[_tid];\n"},
  };
  string result = source;
  for (auto& [before, after] : pieces) {
    size_t at = result.find(before);
    if (at == string::npos || result.find(before, at + 1) != string::npos) return source;
    result.replace(at, before.size(), after);
  }
  static const std::regex own(R"re(\b(threadIdx|__sync\w+|__shfl\w*)\b)re");
  return std::regex_search(result, own) ? source : result;
}

// What a launch calls by name. An expression such as `scale<float>` is called after its number.
string launchers(const Program& program) {
  std::ostringstream text;
  auto add = [&](const string& symbol, const string& kernel) {
    text << "extern \"C\" COC_EXPORT void coc_launch_" << symbol
         << "(void** arguments) { coc::call(&" << kernel << ", arguments); }\n"
         << "extern \"C\" COC_EXPORT const char* coc_arguments_" << symbol
         << "() { return coc::arguments<decltype(&" << kernel << ")>(); }\n";
  };
  for (auto& name : kernels_in(without_comments(program.source))) add(name, name);
  for (size_t i = 0; i < program.expressions.size(); i++)
    add("expression" + std::to_string(i), program.expressions[i]);
  return text.str();
}

// How the kernels of a source are run, see `run_kernel` in driver.cpp; device.h turns that into
// COC_FIBERS where they wait. One thread does for all elements in an elementwise kernel of CuPy's,
// unless it could leave the loop, or looks at who it is.
const char* mode_of(const string& source, bool in_loops) {
  if (in_loops) return "COC_BLOCKS";
  static const std::regex own(R"re(\b(return|break|goto|threadIdx|blockIdx|blockDim|gridDim)\b)re");
  string code = without_comments(source);
  bool elementwise = code.find("CUPY_FOR") != string::npos && kernels_in(code).size() == 1;
  return elementwise && !std::regex_search(code, own) ? "COC_GRID_STRIDE" : "COC_THREADS";
}

// Return whether a folder holds NVIDIA's own headers, which are not for a host's compiler.
bool is_toolkit(const string& folder) {
  return exists(folder + "/cuda_runtime.h") || exists(folder + "/cuda_fp16.h");
}

int compile(Program& program, int count, const char* const* options) {
  const char* home = getenv("CUDA_ON_CPU");  // where `build.py` put device.h
  bool flush = false, contract = true;
  std::vector<string> extra;
  for (int i = 0; i < count; i++) {
    string option = options[i];
    if (option.rfind("-I", 0) == 0 && !is_toolkit(option.substr(2))) extra.push_back(option);
    if (option.rfind("-D", 0) == 0) extra.push_back(option);
    if (option.find("use_fast_math") != string::npos) flush = true;
    if (option.find("-ftz=true") != string::npos) flush = true;
    if (option.find("-fmad=false") != string::npos) contract = false;
  }
  Folder folder;
  if (!folder.made || !home) return OUT_OF_MEMORY;
  string source = folder.file("kernels.cpp"), library = folder.file("kernels.so"),
         log = folder.file("log");
  for (auto& [name, text] : program.headers)
    if (name.find('/') == string::npos) std::ofstream(folder.file(name)) << text;
  string text = with_threads_in_loops(program.source);
  std::ofstream(source) << "#line 1 \"" << program.name << "\"\n"
                        << with_dynamic_shared_memory(text) << "\n"
                        << launchers(program)
                        << "extern \"C\" COC_EXPORT coc_module coc_module_info;\n"
                        << "coc_module coc_module_info = {&coc_thread_state, "
                        << mode_of(text, text != program.source) << ", " << (flush ? "true" : "false") << "};\n";
  // Those of COC_FLAGS are the ones that the headers were precompiled with. NVRTC joins a product
  // and a sum to one rounding unless -fmad=false, so does this.
  std::vector<string> words{"g++"};
  std::istringstream flags(COC_FLAGS);
  for (string flag; flags >> flag;) words.push_back(flag);
  words.push_back(contract ? "-ffp-contract=fast" : "-ffp-contract=off");
  for (string word : {"-shared", "-include"}) words.push_back(word);
  bool cupys = program.source.find("#include <cupy/carray.cuh>") != string::npos;
  words.push_back(string(home) + (cupys ? "/device_and_cupy.h" : "/device.h"));
  words.push_back(string("-I") + home);
  words.push_back("-I" + folder.path);
  words.insert(words.end(), extra.begin(), extra.end());
  for (string word : {source, string("-o"), library}) words.push_back(word);
  bool ended = run(words, log);
  program.log = slurp(log);
  program.image = ended ? slurp(library) : "";
  return ended ? SUCCESS : COMPILATION;
}

}  // namespace

extern "C" {

const char* nvrtcGetErrorString(int result) {
  return result == SUCCESS       ? "NVRTC_SUCCESS"
         : result == COMPILATION ? "NVRTC_ERROR_COMPILATION"
                                 : "NVRTC_ERROR";
}

int nvrtcVersion(int* major, int* minor) { return *major = COC_CUDA, *minor = 0, SUCCESS; }
int nvrtcGetNumSupportedArchs(int* count) { return *count = 1, SUCCESS; }
int nvrtcGetSupportedArchs(int* archs) { return *archs = 90, SUCCESS; }

int nvrtcCreateProgram(Program** program, const char* source, const char* name, int count,
                       const char* const* headers, const char* const* names) {
  *program = new Program{source, name && *name ? name : "kernels.cu", {}, {}, "", ""};
  for (int i = 0; i < count; i++) (*program)->headers[names[i]] = headers[i];
  return SUCCESS;
}

int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, SUCCESS; }

int nvrtcAddNameExpression(Program* program, const char* expression) {
  return program->expressions.push_back(expression), SUCCESS;
}

int nvrtcGetLoweredName(Program* program, const char* expression, const char** name) {
  static std::set<string> names;
  for (size_t i = 0; i < program->expressions.size(); i++)
    if (program->expressions[i] == expression)
      return *name = names.insert("expression" + std::to_string(i)).first->c_str(), SUCCESS;
  return COMPILATION;
}

int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  // CuPy compiles an empty source to know the compiler, and keeps kernels under what it gets: so
  // what was compiled by another version of this folder is never taken for this one's.
  if (program->source.empty()) return program->image = "cuda-on-cpu " COC_VERSION "\n", SUCCESS;
  return compile(*program, count, options);
}

// A zero follows, as after a text: CuPy drops the last byte of whatever it gets.
int nvrtcGetPTXSize(Program* program, size_t* size) {
  return *size = program->image.size() + 1, SUCCESS;
}
int nvrtcGetPTX(Program* program, char* image) {
  return memcpy(image, program->image.c_str(), program->image.size() + 1), SUCCESS;
}
int nvrtcGetCUBINSize(Program* program, size_t* size) { return nvrtcGetPTXSize(program, size); }
int nvrtcGetCUBIN(Program* program, char* image) { return nvrtcGetPTX(program, image); }
int nvrtcGetProgramLogSize(Program* program, size_t* size) {
  return *size = program->log.size() + 1, SUCCESS;
}
int nvrtcGetProgramLog(Program* program, char* log) {
  return memcpy(log, program->log.c_str(), program->log.size() + 1), SUCCESS;
}

}  // extern "C"
