// llama.cpp as an engine of benchmarks/cpu_peers.py, and its quantizer. Built as benchmarks/results/README.md says.
//
//     llama_cpp serve MODEL.gguf THREADS       answers each line "batch context new" of standard input with one of JSON
//     llama_cpp quantize IN.gguf OUT.gguf q4_0|q8_0    every matrix, the head and the table of tokens too
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>
#include <string>
#include <vector>

constexpr int CONTEXT = 2048, STEP = 512;

struct Clock {
    double wall, cpu;
    static Clock now() {
        timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return {std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
                t.tv_sec + 1e-9 * t.tv_nsec};
    }
};

// The most bytes of memory that this program held: ru_maxrss would begin with what its parent held.
static long peak_memory() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (word == "VmHWM:" && status >> word) return std::stol(word) * 1024;
    return 0;
}

static void fail(const char *what) {
    printf("{\"error\": \"%s\"}\n", what);
    exit(1);
}

static void decode(llama_context *context, llama_token *tokens, int count) {
    if (llama_decode(context, llama_batch_get_one(tokens, count))) fail("llama_decode failed");
    llama_synchronize(context);
}

static int serve(const char *path, int threads) {
    llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    if (!model) fail("the model cannot be loaded");
    auto parameters = llama_context_default_params();
    parameters.n_ctx = parameters.n_batch = CONTEXT;
    parameters.n_ubatch = STEP;
    parameters.n_threads = parameters.n_threads_batch = threads;
    llama_context *context = llama_init_from_model(model, parameters);
    if (!context) fail("there is no memory for a context");
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    puts("{\"ready\": true}");
    fflush(stdout);
    std::mt19937 random(0);
    for (int batch, tokens, steps; scanf("%d %d %d", &batch, &tokens, &steps) == 3;) {
        if (batch != 1 || tokens + steps > CONTEXT) fail("one text of up to 2,048 tokens");
        std::vector<llama_token> ids(tokens);
        for (auto &id : ids) id = 3 + random() % 3990;
        llama_memory_clear(llama_get_memory(context), false);
        auto largest = [&] {
            const float *logits = llama_get_logits_ith(context, -1);
            return llama_token(3 + (std::max_element(logits, logits + vocabulary) - logits) % 3990);
        };
        const Clock began = Clock::now();
        decode(context, ids.data(), tokens);
        llama_token token = largest();
        const Clock middle = Clock::now();
        for (int i = 0; i < steps; i++) {
            decode(context, &token, 1);
            token = largest();
        }
        const Clock ended = Clock::now();
        printf("{\"prefill_s\": %.6f, \"prefill_cpu_s\": %.6f, \"decode_s\": %.6f, \"decode_cpu_s\": %.6f, \"memory\": %ld}\n",
               middle.wall - began.wall, middle.cpu - began.cpu, ended.wall - middle.wall, ended.cpu - middle.cpu,
               peak_memory());
        fflush(stdout);
    }
    return 0;
}

static int quantize(const char *from, const char *to, const char *type) {
    auto parameters = llama_model_quantize_default_params();
    const bool q4 = !strcmp(type, "q4_0");
    parameters.ftype = q4 ? LLAMA_FTYPE_MOSTLY_Q4_0 : LLAMA_FTYPE_MOSTLY_Q8_0;
    parameters.token_embedding_type = parameters.output_tensor_type = q4 ? GGML_TYPE_Q4_0 : GGML_TYPE_Q8_0;
    parameters.pure = true;
    return int(llama_model_quantize(from, to, &parameters));
}

int main(int count, char **words) {
    auto errors_only = [](ggml_log_level level, const char *text, void *) {
        if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
    };
    llama_log_set(errors_only, nullptr);
    llama_backend_init();
    const std::string what = count > 1 ? words[1] : "";
    if (what == "serve" && count == 4) return serve(words[2], atoi(words[3]));
    if (what == "quantize" && count == 5) return quantize(words[2], words[3], words[4]);
    fputs("llama_cpp serve MODEL THREADS | llama_cpp quantize FROM TO q4_0|q8_0\n", stderr);
    return 2;
}
