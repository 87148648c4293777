/* One linear map along each axis of a map, y = V x H^T, for one type of number: REAL, with NAME(f) for its names.
 *
 * Rows are combined first (V), into a buffer that stays in the cache; then H makes an output row of it. So x is read
 * once and y written once, and nothing else goes through memory. `blur_kernel.c` includes this for float and double.
 */

/* out = sum over t of weight[t] * (n numbers from in + index[t] * pitch on), added to `out` if `more`; from one number to
 * the next it is `hop` in `in` and `skip` in `out`. With constants for `count`, `hop` and `skip` the sum stays in a
 * register and the loop becomes vectors. Every element is the same chain of operations wherever it stands in a
 * vector: that, and one writer an element, makes results equal to the bit for any number of threads. */
static INLINE void NAME(sum)(REAL *restrict out, int64_t skip, int64_t n, const REAL *restrict in, int64_t hop,
                             int64_t pitch, const int64_t *index, const REAL *weight, const int count, const int more)
{
    const REAL *from[MOST];
    REAL by[MOST];
    for (int t = 0; t < count; t++) {
        from[t] = in + index[t] * pitch;
        by[t] = weight[t];
    }
    for (int64_t j = 0; j < n; j++) {
        REAL total = by[0] * from[0][j * hop];
        if (more)
            total += out[j * skip];
        for (int t = 1; t < count; t++)
            total += by[t] * from[t][j * hop];
        out[j * skip] = total;
    }
}

static INLINE void NAME(any)(REAL *restrict out, int64_t skip, int64_t n, const REAL *restrict in, int64_t hop,
                             int64_t pitch, const int64_t *index, const REAL *weight, int64_t count)
{
    switch (count) {
    case 0:
        for (int64_t j = 0; j < n; j++)
            out[j * skip] = 0;
        return;
    case 1: NAME(sum)(out, skip, n, in, hop, pitch, index, weight, 1, 0); return;
    case 2: NAME(sum)(out, skip, n, in, hop, pitch, index, weight, 2, 0); return;
    case 3: NAME(sum)(out, skip, n, in, hop, pitch, index, weight, 3, 0); return;
    case 4: NAME(sum)(out, skip, n, in, hop, pitch, index, weight, 4, 0); return;
    case 5: NAME(sum)(out, skip, n, in, hop, pitch, index, weight, 5, 0); return;
    case 6: NAME(sum)(out, skip, n, in, hop, pitch, index, weight, 6, 0); return;
    default: /* seven taps, or what the padding of a very small map adds up to */
        NAME(sum)(out, skip, n, in, hop, pitch, index, weight, 7, 0);
        for (int64_t t = 7; t < count; t++)
            NAME(sum)(out, skip, n, in, hop, pitch, index + t, weight + t, 1, 1);
    }
}

/* Numbers that lie side by side, in and out. */
CLONES static void NAME(combine)(REAL *restrict out, int64_t n, const REAL *restrict in, int64_t pitch,
                                 const int64_t *index, const REAL *weight, int64_t count)
{
    NAME(any)(out, 1, n, in, 1, pitch, index, weight, count);
}

/* Output j of each of n rows. */
CLONES static void NAME(column)(REAL *restrict out, int64_t n, const REAL *restrict in, const struct axis *h, int64_t j)
{
    int64_t start = h->starts[j];
    NAME(any)(out + j, h->n_out, n, in, h->n_in, 1, h->index + start, (const REAL *)h->weights + start,
              h->starts[j + 1] - start);
}

/* Output `i` of an axis, for n numbers that lie side by side at each of its places. */
static INLINE void NAME(output)(REAL *restrict out, int64_t n, const REAL *restrict in, int64_t pitch,
                                const struct axis *a, int64_t i)
{
    int64_t start = a->starts[i];
    NAME(combine)(out, n, in, pitch, a->index + start, (const REAL *)a->weights + start, a->starts[i + 1] - start);
}

/* ---- channels last: (N, H, W, C). A pixel is a vector; both passes combine vectors ---- */

CLONES static int NAME(channels_last)(const REAL *restrict x, REAL *restrict y, const struct axis *v,
                                      const struct axis *h, int64_t channels, int64_t first, int64_t last)
{
    int64_t row = h->n_in * channels;
    REAL *buffer = malloc((size_t)row * sizeof(REAL));
    if (!buffer)
        return 1;
    for (int64_t r = first; r < last; r++) {
        NAME(output)(buffer, row, x + r / v->n_out * v->n_in * row, row, v, r % v->n_out);
        for (int64_t j = 0; j < h->n_out; j++)
            NAME(output)(y + (r * h->n_out + j) * channels, channels, buffer, channels, h, j);
    }
    free(buffer);
    return 0;
}

/* ---- contiguous: (planes, H, W). Along a row, neighbouring outputs are made side by side ---- */

/* lanes[r][m] = row[m * step + r]: what outputs a stride apart read becomes contiguous. */
static INLINE void NAME(deal)(REAL *restrict lanes, int64_t lane, const REAL *restrict row, int64_t n, const int64_t step)
{
    int64_t whole = n / step;
    for (int64_t m = 0; m < whole; m++)
        for (int64_t r = 0; r < step; r++)
            lanes[r * lane + m] = row[m * step + r];
    for (int64_t r = 0; r < n - whole * step; r++)
        lanes[r * lane + whole] = row[whole * step + r];
}

/* out[m * period + p] = phases[p][m]: the reverse. */
static INLINE void NAME(gather)(REAL *restrict out, const REAL *restrict phases, int64_t n, const int64_t period)
{
    for (int64_t m = 0; m < n; m++)
        for (int64_t p = 0; p < period; p++)
            out[m * period + p] = phases[p * n + m];
}

/* Ask for what the rows `AHEAD` bytes on will read. Where V takes more rows than it makes, the memory is what is waited
 * for, and the processor guesses no further than the page (a third of the time at 64x256x256). */
static INLINE void NAME(fetch)(const REAL *row, int64_t n)
{
    for (int64_t byte = 0; byte < n * (int64_t)sizeof(REAL); byte += 64)
        __builtin_prefetch((const void *)((uintptr_t)row + AHEAD + (uintptr_t)byte));
}

/* H's interior, n periods of it: outputs first, first + 1, ... of a row at `row`; scratch has room for lanes and phases. */
CLONES static void NAME(interior)(REAL *restrict out, const REAL *restrict row, int64_t width, int64_t n,
                                  const struct axis *h, REAL *restrict scratch)
{
    int64_t step = h->step, period = h->period, lane = (width + step - 1) / step;
    const REAL *lanes = row;
    REAL *phases = scratch;
    if (step > 1) {
        if (step == 2)
            NAME(deal)(scratch, lane, row, width, 2);
        else
            NAME(deal)(scratch, lane, row, width, step);
        lanes = scratch;
        phases = scratch + step * lane;
    }
    for (int64_t p = 0; p < period; p++) {
        int64_t start = h->starts[h->first + p], count = h->starts[h->first + p + 1] - start;
        int64_t places[MOST];
        for (int64_t t = 0; t < count; t++)
            places[t] = h->index[start + t] % step * lane + h->index[start + t] / step;
        REAL *target = period == 1 ? out + h->first : phases + p * n;
        NAME(combine)(target, n, lanes, 1, places, (const REAL *)h->weights + start, count);
    }
    if (period == 2)
        NAME(gather)(out + h->first, phases, n, 2);
    else if (period > 2)
        NAME(gather)(out + h->first, phases, n, period);
}

CLONES static int NAME(contiguous)(const REAL *restrict x, REAL *restrict y, const struct axis *v,
                                   const struct axis *h, int64_t first, int64_t last)
{
    int64_t width = h->n_in, wide = h->n_out, step = h->step, period = h->period;
    int64_t border = h->first + h->repeats * period; /* the first output behind the interior */
    /* Where rows in and out are equally many steps long, several make one long row whose seams come out wrong and are
     * made again with the border. Short rows would waste most of a vector otherwise. */
    int joined = width % step == 0 && wide % period == 0 && width / step == wide / period;
    int64_t group = JOINED / (width > wide ? width : wide);
    group = group < 1 ? 1 : group > last - first ? last - first : group;
    REAL *buffer = malloc((size_t)(group * (2 * width + wide) + step + period) * sizeof(REAL));
    if (!buffer)
        return 1;
    for (int64_t r = first; r < last; r += group) {
        int64_t rows = group < last - r ? group : last - r;
        for (int64_t k = 0; k < rows; k++) {
            int64_t i = (r + k) % v->n_out;
            const REAL *plane = x + (r + k) / v->n_out * v->n_in * width;
            if (v->n_in > v->n_out)
                NAME(fetch)(plane + i * v->n_in / v->n_out * width, v->n_in / v->n_out * width);
            NAME(output)(buffer + k * width, width, plane, width, v, i);
        }
        REAL *scratch = buffer + group * width;
        if (h->repeats && joined)
            NAME(interior)(y + r * wide, buffer, rows * width, (rows - 1) * (width / step) + h->repeats, h, scratch);
        else if (h->repeats)
            for (int64_t k = 0; k < rows; k++)
                NAME(interior)(y + (r + k) * wide, buffer + k * width, width, h->repeats, h, scratch);
        for (int64_t j = 0; j < h->first; j++)
            NAME(column)(y + r * wide, rows, buffer, h, j);
        for (int64_t j = border; j < wide; j++)
            NAME(column)(y + r * wide, rows, buffer, h, j);
    }
    free(buffer);
    return 0;
}

/* ---- both: the rows of the output in shares, each for whoever comes first ---- */

static void NAME(work)(void *argument)
{
    struct job *job = argument;
    int64_t share;
    while ((share = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->shares) {
        int64_t first = job->rows * share / job->shares, last = job->rows * (share + 1) / job->shares;
        int failed = job->channels
                         ? NAME(channels_last)(job->x, job->y, job->v, job->h, job->channels, first, last)
                         : NAME(contiguous)(job->x, job->y, job->v, job->h, first, last);
        if (failed)
            __atomic_store_n(&job->failed, 1, __ATOMIC_RELAXED);
    }
}
