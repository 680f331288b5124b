// Package archtest holds no code, only tests that read the source tree: who imports whom (imports_table_test.go),
// what a controller looks like, the habits that no linter knows, and whether the documents still tell the truth.
package archtest
