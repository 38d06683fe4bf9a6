// Where a decoder keeps things: one block of memory, and rows of maps in time order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace spw {

constexpr size_t LARGEST_ARENA = size_t{1} << 31, HUGE_PAGE = size_t{2} << 20;

// All memory of a decoder, zeroed. Asked twice: first it only counts, then it hands out. Under the
// address sanitizer nothing may be read or written between two arrays.
class Arena {
  public:
    template <class T>
    T *take(size_t count) {
        const size_t at = used_, bytes = count * sizeof(T);
        used_ += (bytes + 63) / 64 * 64;
#if defined(__SANITIZE_ADDRESS__)
        used_ += 64;
        if (start_) __asan_poison_memory_region(start_ + at + bytes, used_ - at - bytes);
#endif
        return start_ ? reinterpret_cast<T *>(start_ + at) : nullptr;
    }

    bool allocate() {
        if (used_ > LARGEST_ARENA) return false;
        const size_t whole = (used_ + HUGE_PAGE) / HUGE_PAGE * HUGE_PAGE;
        start_ = static_cast<char *>(std::aligned_alloc(HUGE_PAGE, whole));
        if (!start_) return false;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        // A step reads all weights once: with small pages it would also read thousands of entries
        // of the page table. Refused or unknown, nothing is lost.
        madvise(start_, whole, MADV_HUGEPAGE);
#endif
        std::memset(start_, 0, whole);
        used_ = 0;
        return start_ != nullptr;
    }

    bool counting() const { return start_ == nullptr; }
    ~Arena() {
#if defined(__SANITIZE_ADDRESS__)
        if (start_) __asan_unpoison_memory_region(start_, used_);
#endif
        std::free(start_);
    }

  private:
    char *start_ = nullptr;
    size_t used_ = 0;
};

// Rows of a map: as floats, and rounded if such a layer reads them, to one or two bytes.
struct Map {
    float *floats;
    uint8_t *bytes, *low;
    int width;
};

// Rows in time order, the newest last, with at least `keep` older ones right before any new row.
struct Stream {
    float *data = nullptr;
    uint8_t *rounded = nullptr, *low = nullptr;
    int width = 0, keep = 0, room = 0, at = 0;

    void plan(Arena &arena, int row, int kept, int most, int bytes = 0) {
        width = row;
        keep = kept;
        room = kept + most;
        data = arena.take<float>(static_cast<size_t>(room) * width);
        rounded = bytes > 0 ? arena.take<uint8_t>(static_cast<size_t>(room) * width) : nullptr;
        low = bytes > 1 ? arena.take<uint8_t>(static_cast<size_t>(room) * width) : nullptr;
        at = keep;
    }
    // Place for `count` new rows.
    float *push(int count) {
        if (at + count > room) {
            const Map kept = map(-keep);
            const size_t many = static_cast<size_t>(keep) * width;
            std::memmove(data, kept.floats, sizeof(float) * many);
            if (rounded) std::memmove(rounded, kept.bytes, many);
            if (low) std::memmove(low, kept.low, many);
            at = keep;
        }
        at += count;
        return row(-count);
    }
    // Row counted from the end: row(-1) is the newest.
    float *row(int from_end) const { return data + static_cast<size_t>(at + from_end) * width; }
    Map map(int from_end) const {
        const size_t offset = static_cast<size_t>(at + from_end) * width;
        return {data + offset, rounded ? rounded + offset : nullptr, low ? low + offset : nullptr,
                width};
    }
    void reset() {
        std::memset(data, 0, sizeof(float) * room * width);
        if (rounded) std::memset(rounded, 0, static_cast<size_t>(room) * width);
        if (low) std::memset(low, 0, static_cast<size_t>(room) * width);
        at = keep;
    }
};

} // namespace spw
