// SPDX-License-Identifier: BSD-2-Clause
// What torch.topk() chooses on a CPU: its own lines around the standard library's algorithms. Each
// line that is printed is a case: n, k, n scores as bits, k chosen indices in ascending order.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

using Scored = std::pair<float, int64_t>;

static bool before(const Scored &x, const Scored &y)
{
	return (std::isnan(x.first) && !std::isnan(y.first)) || x.first > y.first;
}

static void show(const std::vector<float> &scores, size_t k)
{
	std::vector<Scored> queue;
	std::vector<int64_t> chosen;

	for (size_t i = 0; i < scores.size(); i++)
		queue.emplace_back(scores[i], i);
	if (k * 64 <= scores.size())
		std::partial_sort(queue.begin(), queue.begin() + k, queue.end(), before);
	else
		std::nth_element(queue.begin(), queue.begin() + k - 1, queue.end(), before);
	printf("%zu %zu", scores.size(), k);
	for (float score : scores) {
		uint32_t bits;

		memcpy(&bits, &score, sizeof(bits));
		printf(" %x", bits);
	}
	for (size_t i = 0; i < k; i++)
		chosen.push_back(queue[i].second);
	std::sort(chosen.begin(), chosen.end());
	for (int64_t index : chosen)
		printf(" %lld", (long long)index);
	putchar('\n');
}

// Kinds of scores: all different, few values, one value, with NaN and infinities, in order, against
// it, up and down, in a way that every pivot is bad, of 8 bits.
constexpr int KINDS = 10;

static float score_of(int kind, size_t i, size_t n, std::mt19937 &random)
{
	float even = std::uniform_real_distribution<float>(-8, 8)(random);

	switch (kind) {
	case 1:
		return random() % 4;
	case 2:
		return 0.25f;
	case 3:
		return random() % 3 ? even : std::numeric_limits<float>::quiet_NaN();
	case 4:
		return random() % 3 ? even : random() % 2 ? INFINITY : -INFINITY;
	case 5:
		return n - i;
	case 6:
		return i;
	case 7:
		return i < n / 2 ? i : n - i;
	case 8: // largest in the middle of what is left, again and again
		return i % 2 ? n - i : i + n;
	case 9:
		return std::round(even * 4) / 4;
	default:
		return even;
	}
}

// Scores for which each median of three is next to the worst (Musser): for the fall back to a heap.
static std::vector<float> killer(size_t n)
{
	std::vector<float> scores(n);
	size_t half = n / 2;

	for (size_t i = 1; i <= half; i++) {
		scores[i - 1] = i % 2 ? i : half + i - 1;
		scores[half + i - 1] = 2 * i;
	}
	for (float &score : scores)
		score = -score;
	return scores;
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 1, 2, 3, 4, 5, 8, 16, 60, 64, 65, 128, 129, 256, 512, 1024, 4096 };
	static const size_t ks[] = { 1, 2, 3, 4, 6, 8, 16, 22, 64 };
	std::mt19937 random(argc > 1 ? atoi(argv[1]) : 1);

	for (size_t n : sizes) {
		std::vector<float> scores(n);

		for (int kind = 0; kind < KINDS; kind++)
			for (size_t k : ks) {
				for (size_t i = 0; i < n; i++)
					scores[i] = score_of(kind, i, n, random);
				if (k <= n)
					show(scores, k);
			}
		if (n <= 64)
			show(scores, n);
		if (n >= 64)
			for (size_t k : ks)
				show(killer(n), k);
	}
	return 0;
}
