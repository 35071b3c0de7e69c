// Writes Go's heap and allocs profiles of a program whose allocations are known.
package main

import (
	"os"
	"runtime"
	"runtime/pprof"
)

var kept [][]byte

//go:noinline
func keep() { kept = append(kept, make([]byte, 4096)) }

//go:noinline
func drop() int { return len(append([]byte(nil), make([]byte, 8192)...)) }

func write(name string) {
	file, err := os.Create(name + ".pb.gz")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if err := pprof.Lookup(name).WriteTo(file, 0); err != nil {
		panic(err)
	}
}

func main() {
	runtime.MemProfileRate = 1
	for i := 0; i < 100; i++ {
		keep()
		drop()
	}
	runtime.GC()
	write("heap")
	write("allocs")
}
