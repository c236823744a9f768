// Go's net/http as it comes; argument: a file with lines of id, method, url, content type, file.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	lines, _ := os.ReadFile(os.Args[1])
	for _, line := range strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n") {
		one := strings.Split(line, "\t")
		var body []byte
		if one[4] != "" {
			body, _ = os.ReadFile(one[4])
		}
		for _, way := range []string{"whole", "chunked"} {
			var reader io.Reader
			if body != nil {
				reader = bytes.NewReader(body)
				if way == "chunked" {
					reader = io.MultiReader(reader)
				}
			} else if way == "chunked" {
				continue
			}
			request, _ := http.NewRequest(one[1], one[2], reader)
			if one[3] != "" {
				request.Header.Set("Content-Type", one[3])
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				fmt.Printf("%s\t%s\t%v\n", one[0], way, err)
				continue
			}
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			fmt.Printf("%s\t%s\t%d\n", one[0], way, answer.StatusCode)
		}
	}
}
