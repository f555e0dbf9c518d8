// hello [--cat FILE] [--exit N] [ANYTHING...]: the arguments, one a line, then what was asked for.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	code := 0
	fmt.Println("hello from Go")
	for _, arg := range os.Args {
		fmt.Println(arg)
	}
	for i := 1; i+1 < len(os.Args); i++ {
		var err error
		switch os.Args[i] {
		case "--exit":
			code, err = strconv.Atoi(os.Args[i+1])
		case "--cat":
			var text []byte
			text, err = os.ReadFile(os.Args[i+1])
			os.Stdout.Write(text)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(code)
}
