package kexecseg_test

import (
	"fmt"

	"github.com/imakexec/imakexec/kexecseg"
)

func ExamplePlanner_Place() {
	memory, err := kexecseg.ParseMemoryMap([]byte(`
0x0-0x9fbff System RAM
0x9fc00-0x9ffff Reserved
0x100000-0x3ffcefff System RAM
0x3ffcf000-0x3fffffff Reserved`))
	if err != nil {
		fmt.Println(err)
		return
	}
	planner := kexecseg.Planner{Memory: memory}
	places, err := planner.Place(
		kexecseg.Piece{Name: "kernel", Size: 57 << 20, Align: 2 << 20, Min: 16 << 20, Low: true},
		kexecseg.Piece{Name: "initrd", Size: 30 << 20, Min: 1 << 20},
	)
	fmt.Println(places, err)

	_, err = planner.Place(kexecseg.Piece{Name: "initrd", Size: 600 << 20, Min: 1 << 20})
	fmt.Println(err)
	// Output:
	// [0x1000000-0x48fffff 0x3e1bf000-0x3ffbefff] <nil>
	// kexecseg: no place for initrd of 629145600 bytes by the rule "takes, with the others, at most half of RAM"; the largest that could be placed has 536571904 bytes
}

func ExampleImage_Map() {
	img := &kexecseg.Image{Segments: []kexecseg.Segment{
		{Buf: make([]byte, 8192), Phys: kexecseg.Range{Start: 0x200000, Size: 8192}},
	}}
	buffer := kexecseg.Range{Start: 0x201000, Size: 4096}
	before, _ := img.Digest(buffer)
	m, err := img.Map(buffer)
	if err != nil {
		fmt.Println(err)
		return
	}
	copy(m.Bytes(), "the list, as it is now")
	fmt.Println(m.Unmap())
	after, _ := img.Digest(buffer)
	fmt.Println(before == after)
	// Output:
	// <nil>
	// true
}
