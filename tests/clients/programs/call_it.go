// Uses the Go file of the page, in the program that test_call_it runs.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"

	"example/portfolios"
)

func main() {
	ctx, word := context.Background(), os.Args[1]
	var created, found []portfolios.Portfolio
	for number := 0; number < 3; number++ {
		name := fmt.Sprintf("%s %d", word, number)
		portfolio, err := portfolios.Create(ctx, name, "key of "+name)
		check(err)
		created = append(created, portfolio)
	}
	query := url.Values{"name_like": {word}, "limit": {"2"}}
	check(portfolios.Search(ctx, query, func(each portfolios.Portfolio) { found = append(found, each) }))
	names := []string{strings.ToUpper(word) + " 1", word + " unknown"}
	resolved, err := portfolios.Resolve(ctx, []string{"nonsense"}, names)
	check(err)
	renamed, err := portfolios.Rename(ctx, created[0].ID, word+" renamed")
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"created":  created,
		"found":    found,
		"resolved": map[string]any{
			"portfolios": resolved.Portfolios,
			"missing":    map[string]any{"ids": resolved.Missing.IDs, "names": resolved.Missing.Names},
		},
		"renamed": renamed,
	}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
