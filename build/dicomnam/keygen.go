package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

func keygenCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Write a new TSIG key, as CoreDNS's tsig, ddns and nsupdate -k read it",
		Long: `Write a new 256-bit hmac-sha256 TSIG key, in the form that CoreDNS's tsig plugin,
ddns and nsupdate -k read. With --output the file is made with mode 0640, since
two services read it; a file that exists is left as it is.`,
		Example: "  dicomnam keygen dhcp.imaging.example.org. --output /etc/dicomnam/tsig.keys",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := tsigkey.Generate(args[0])
			if err != nil {
				return err
			}
			if output == "" {
				_, err = key.WriteTo(cmd.OutOrStdout())
				return err
			}
			return writeKey(output, key)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this new `FILE`, mode 0640, instead of standard output")
	return cmd
}

func writeKey(path string, key tsigkey.Key) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	_, err = key.WriteTo(f)
	// A key that a power cut could take back would lock the two services out of
	// each other, so it is on disk before it is announced.
	return errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close())
}
