// Package nginx wip.
package nginx
