package budget_test
import ("fmt";"math";"math/rand/v2";"slices";"sync";"github.com/google/go-cmp/cmp")
var _ = []any{fmt.Sprint, math.Abs, rand.New, slices.Max[[]int], sync.NewCond, cmp.Diff}
