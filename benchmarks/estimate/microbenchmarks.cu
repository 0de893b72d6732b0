// The figures of autotune/devices/microbench.py that a datasheet does not give. No MoE here.
//
//   nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a -o microbenchmarks microbenchmarks.cu
//   ./microbenchmarks
//
// Prints: latency of L2 and device memory (pointer chase); time of empty kernels; rate of
// mma.sync and of a chain of wgmma; bandwidth of cp.async tiles from device memory and from the
// L2, by row length, stages, blocks of an SM, and how many blocks read the same ("share").

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <vector>

#define CHECK(call)                                                                   \
    do {                                                                              \
        cudaError_t error = (call);                                                   \
        if (error) {                                                                  \
            printf("%s at line %d\n", cudaGetErrorString(error), __LINE__);           \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

using Word = unsigned long long;

char *buffer, *flush;
float *sink;
cudaEvent_t begin_event, end_event;
int sms;
constexpr size_t BUFFER_BYTES = size_t(4) << 30, FLUSH_BYTES = size_t(512) << 20;

// Median µs of one launch; a cold one comes after 512 MB were written.
template <class Launch> float median_us(Launch launch, bool cold, int repeats = 9) {
    std::vector<float> times;
    for (int i = 0; i < repeats; i++) {
        if (cold) CHECK(cudaMemsetAsync(flush, i, FLUSH_BYTES));
        cudaEventRecord(begin_event);
        launch();
        cudaEventRecord(end_event);
        CHECK(cudaEventSynchronize(end_event));
        float ms;
        cudaEventElapsedTime(&ms, begin_event, end_event);
        times.push_back(ms * 1e3f);
    }
    CHECK(cudaGetLastError());
    std::sort(times.begin(), times.end());
    return times[repeats / 2];
}

__global__ void link(Word *words, size_t count, size_t stride) {
    // An odd jump of 0.618 of the ring visits all of it (count is even), far from neighbours.
    size_t step = gridDim.x * size_t(blockDim.x), jump = size_t(count * 0.618) | 1;
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        words[i * stride] = Word(words + ((i + jump) % count) * stride);
}

__global__ void chase(const Word *start, int hops, Word *last, long long *clocks) {
    const Word *at = start;
    long long begin = clock64();
    for (int i = 0; i < hops; i++) at = (const Word *)__ldcg(at);
    *clocks = clock64() - begin;
    *last = Word(at);
}

void latency(size_t megabytes) {
    constexpr int STRIDE = 512 / sizeof(Word);
    size_t count = (megabytes << 20) / 512;
    int hops = std::min<size_t>(count, 400000);  // 200 MB of lines: beyond any L2
    long long *clocks;
    CHECK(cudaMallocManaged(&clocks, sizeof(*clocks)));
    link<<<256, 256>>>((Word *)buffer, count, STRIDE);
    for (int pass = 0; pass < 2; pass++)
        chase<<<1, 1>>>((Word *)buffer, hops, (Word *)sink, clocks);
    CHECK(cudaDeviceSynchronize());
    printf("chase over %zu MB: %.0f clocks\n", megabytes, double(*clocks) / hops);
    cudaFree(clocks);
}

__global__ void empty() {}

__global__ void sync_mma(float *out, int rounds) {
    float c[8][4] = {};
    unsigned a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {threadIdx.x, 5};
    for (int i = 0; i < rounds; i++)
#pragma unroll
        for (int j = 0; j < 8; j++)
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                         "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                         : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    float sum = 0;
    for (int j = 0; j < 8; j++) sum += c[j][0] + c[j][1] + c[j][2] + c[j][3];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

__global__ void sync_mma_e4m3(float *out, int rounds) {
    float c[8][4] = {};
    unsigned a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {threadIdx.x, 5};
    for (int i = 0; i < rounds; i++)
#pragma unroll
        for (int j = 0; j < 8; j++)
            asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
                         "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                         : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    float sum = 0;
    for (int j = 0; j < 8; j++) sum += c[j][0] + c[j][1] + c[j][2] + c[j][3];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

// Four m64n16k16 and a wait for all of them: short enough for the drain to show.
__global__ void wgmma_and_wait(float *out, int rounds) {
    extern __shared__ __align__(1024) char shared[];
    float c[8] = {};
    unsigned at = __cvta_generic_to_shared(shared);
    Word layout = (Word(1) << 16) | (Word(64) << 32) | (Word(1) << 62);
    Word a = (Word((at + threadIdx.x / 128 * 8192) & 0x3ffff) >> 4) | layout;
    Word b = (Word((at + 16384) & 0x3ffff) >> 4) | layout;
    for (int i = 0; i < rounds; i++) {
        asm volatile("wgmma.fence.sync.aligned;");
#pragma unroll
        for (int j = 0; j < 4; j++)
            asm volatile("{.reg .pred p; setp.ne.b32 p,1,0; "
                         "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
                         "{%0,%1,%2,%3,%4,%5,%6,%7},%8,%9,p,1,1,0,0;}"
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]),
                           "+f"(c[6]), "+f"(c[7])
                         : "l"(a), "l"(b));
        asm volatile("wgmma.commit_group.sync.aligned;");
        asm volatile("wgmma.wait_group.sync.aligned 0;");
    }
    float sum = 0;
    for (int j = 0; j < 8; j++) sum += c[j];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

void matrix_rates() {
    constexpr int ROUNDS = 4000;
    for (int blocks : {1, 4})
        for (int threads : {128, 256}) {
            double mmas = double(sms) * blocks * threads / 32 * ROUNDS * 8 * 2 * 16 * 8;
            float half = median_us([&] { sync_mma<<<sms * blocks, threads>>>(sink, ROUNDS); }, 0);
            float e4m3 =
                median_us([&] { sync_mma_e4m3<<<sms * blocks, threads>>>(sink, ROUNDS); }, 0);
            printf("mma.sync, %d blocks of %d: bf16 %.0f TFLOP/s, e4m3 %.0f\n", blocks, threads,
                   mmas * 16 / half / 1e6, mmas * 32 / e4m3 / 1e6);
        }
    CHECK(cudaFuncSetAttribute(wgmma_and_wait, cudaFuncAttributeMaxDynamicSharedMemorySize, 65536));
    for (int groups : {1, 2}) {
        float us =
            median_us([&] { wgmma_and_wait<<<sms, 128 * groups, 65536>>>(sink, ROUNDS); }, 0);
        printf("4 x wgmma m64n16k16 and wait, %d warpgroups: %.1f ns\n", groups,
               us * 1e3 / ROUNDS);
    }
}

__device__ void copy16(unsigned to, const void *from) {
    asm volatile("cp.async.cg.shared.global [%0],[%1],16;" ::"r"(to), "l"(from));
}

// Blocks march along K through tiles of 64 rows, STAGES - 1 tiles in flight.
template <int STAGES, int ROW> __global__ void __launch_bounds__(128)
stream(const char *data, size_t row_bytes, int rows, int passes, int share) {
    extern __shared__ char shared[];
    constexpr int THREADS = 128, TILE = 64 * ROW, COPIES = TILE / 16 / THREADS;
    int steps = row_bytes / ROW, groups = (gridDim.x + share - 1) / share;
    unsigned base = __cvta_generic_to_shared(shared);
    for (int pass = 0; pass < passes; pass++)
        for (int row = blockIdx.x / share * 64; row + 64 <= rows; row += groups * 64) {
            auto issue = [&](int step) {
#pragma unroll
                for (int i = 0; i < COPIES; i++) {
                    int at = (threadIdx.x + i * THREADS) * 16;
                    copy16(base + step % STAGES * TILE + at,
                           data + size_t(row + at / ROW) * row_bytes + step * ROW + at % ROW);
                }
            };
            for (int step = 0; step < STAGES - 1; step++) {
                issue(step);
                asm volatile("cp.async.commit_group;");
            }
            for (int step = 0; step < steps; step++) {
                asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2));
                __syncthreads();
                if (step + STAGES - 1 < steps) issue(step + STAGES - 1);
                asm volatile("cp.async.commit_group;");
            }
            asm volatile("cp.async.wait_group 0;");
            __syncthreads();
        }
}

template <int STAGES, int ROW>
void bandwidth(const char *name, size_t row_bytes, int rows, int passes, int share, bool cold) {
    constexpr int SHARED = STAGES * 64 * ROW;
    CHECK(cudaFuncSetAttribute(stream<STAGES, ROW>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               SHARED));
    for (int blocks : {1, 2, 4}) {
        if (SHARED * blocks > 220 * 1024) continue;
        float us = median_us(
            [&] {
                stream<STAGES, ROW>
                    <<<sms * blocks, 128, SHARED>>>(buffer, row_bytes, rows, passes, share);
            },
            cold);
        double bytes = double(rows / 64 * 64) * row_bytes * passes * share;
        printf("%s: rows of %d bytes, %d stages, %d blocks, share %d, %d KB in flight: %.2f TB/s\n",
               name, ROW, STAGES, blocks, share, (STAGES - 1) * 64 * ROW * blocks / 1024,
               bytes / us / 1e6);
    }
}

template <int ROW> void bandwidths() {
    int memory_rows = sms * 4 * 64 * 12, l2_rows = sms * 2 * 64;
    bandwidth<2, ROW>("memory", 4096, memory_rows, 1, 1, true);
    bandwidth<3, ROW>("memory", 4096, memory_rows, 1, 1, true);
    bandwidth<4, ROW>("memory", 4096, memory_rows, 1, 1, true);
    for (int share : {1, 2, 4, 12}) bandwidth<3, ROW>("L2", 1024, l2_rows, 40, share, false);
}

int main() {
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    sms = properties.multiProcessorCount;
    printf("%s, %d SMs, L2 %d MB\n", properties.name, sms, properties.l2CacheSize >> 20);
    CHECK(cudaEventCreate(&begin_event));
    CHECK(cudaEventCreate(&end_event));
    CHECK(cudaMalloc(&buffer, BUFFER_BYTES));
    CHECK(cudaMemset(buffer, 0, BUFFER_BYTES));
    CHECK(cudaMalloc(&flush, FLUSH_BYTES));
    CHECK(cudaMalloc(&sink, 1 << 24));
    for (size_t megabytes : {1, 8, 16, 24, 32, 40, 48, 256, 2048}) latency(megabytes);
    printf("empty kernel: %.2f us; 20000 blocks of 128: %.2f us\n",
           median_us([] { empty<<<1, 32>>>(); }, true),
           median_us([] { empty<<<20000, 128>>>(); }, true));
    matrix_rates();
    CHECK(cudaMemset(buffer, 0, BUFFER_BYTES));
    bandwidths<64>();
    bandwidths<128>();
    bandwidths<256>();
}
