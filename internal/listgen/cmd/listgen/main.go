// Listgen writes a measurement list of a wanted length to standard output: the
// one that the benchmarks run over, for other programs to be measured on.
//
//	go run ./internal/listgen/cmd/listgen -n 1000000 >list
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/imakexec/imakexec/internal/listgen"
)

func main() {
	n := flag.Int("n", 1_000_000, "number of records")
	seed := flag.Uint64("seed", listgen.Seed, "seed: the same list for the same one")
	flag.Parse()
	if err := listgen.Write(os.Stdout, *n, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "listgen:", err)
		os.Exit(1)
	}
}
