// Package reportingv1 is the generated code of clearing.proto: what a
// clearinghouse accepts and returns.
package reportingv1
